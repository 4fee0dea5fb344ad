"""What a container finds inside of its VM: expectations of the OCI image specification (config.md) and of Docker's
documentation (`docker run`, Dockerfile reference), unless a comment says where a VM of its own differs.

One guest is booted; its entrypoint looks around and says what it found, and others are run beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.guest.tests import disks
from deploy.guest.tests.conftest import NETWORK
from deploy.guest.tests.machine import Machine
from worker.relay.execs import ExecRefused

# Each line: a name, then what a shell makes of it.
LOOK = r"""
say() { name=$1; shift; echo "$name=$("$@" 2>&1 | tr '\n' '|' | sed 's/|$//')"; }
can() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name=yes"; else echo "$name=no"; fi; }
echo "args=$#:$1:$2:$3"
say given sh -c 'echo "$GIVEN"'
say empty sh -c 'echo "$EMPTY"'
say unicode sh -c 'echo "$UNICODE"'
say path sh -c 'echo "$PATH"'
say home sh -c 'echo "$HOME"'
say hostname_env sh -c 'echo "$HOSTNAME"'
can term sh -c 'test -n "$TERM"'
say env_count sh -c 'env -u SHLVL -u PWD -u OLDPWD -u _ | cut -d= -f1 | sort | tr "\n" " "'
say cwd pwd
say user sh -c 'id -u; id -g'
say umask umask
say hostname hostname
say etc_hostname cat /etc/hostname
say localhost grep -c localhost /etc/hosts
say own_name grep -w probe /etc/hosts
say extra_host grep -w db /etc/hosts
say resolv cat /etc/resolv.conf
say nofile sh -c 'ulimit -Sn; ulimit -Hn'
say core sh -c 'ulimit -Sc; ulimit -Hc'
say stdin wc -c
say fds sh -c 'ls /proc/$$/fd; true'
say dev sh -c 'cd /dev; for f in null zero full random urandom tty; do test -c $f && printf "%s " $f; done'
say dev_all ls /dev
say dev_links sh -c 'for f in fd stdin stdout stderr; do readlink /dev/$f; done'
say null_mode stat -c %a /dev/null
say shm stat -f -c %T /dev/shm
say shm_mode stat -c %a /dev/shm
can shm_writable touch /dev/shm/x
say proc stat -f -c %T /proc
can sys_writable sh -c 'echo x > /sys/kernel/uevent_helper'
can root_writable touch /new
can image_file_writable sh -c 'echo more >> /etc/motd'
can deletes rm /www/index.html
say root_type sh -c 'grep " / " /proc/mounts | cut -d" " -f3'
can dev_nodes_open sh -c 'mknod /tmp/d b 254 0 && head -c1 /tmp/d'
can console_node sh -c 'mknod /tmp/tty c 4 64 && echo x > /tmp/tty'
can console_in_dev sh -c 'mknod /dev/own c 4 64 && echo x > /dev/own'
can hvc sh -c 'mknod /tmp/hvc c 229 0 && echo x > /tmp/hvc'
can kmsg sh -c 'mknod /tmp/kmsg c 1 11 && echo x > /tmp/kmsg'
can mem sh -c 'mknod /tmp/mem c 1 1 && head -c1 /tmp/mem'
can mounts mount -t tmpfs none /mnt
can devtmpfs mount -t devtmpfs none /mnt
can sysrq sh -c 'echo h > /proc/sysrq-trigger'
can core_pattern sh -c 'echo "|/bin/sh" > /proc/sys/kernel/core_pattern'
can somaxconn sh -c 'echo 1024 > /proc/sys/net/core/somaxconn'
can overcommit sh -c 'echo 1 > /proc/sys/vm/overcommit_memory'
can kcore sh -c 'test "$(head -c4 /proc/kcore | wc -c)" = 4'
say pid_1 cat /proc/1/comm
can kernel_threads test -d /proc/2/task/2/kthread -o "$(cat /proc/2/comm)" = kthreadd
can sees_init sh -c 'ls /proc/1/root/modules'
say seccomp sh -c 'grep -E "^(NoNewPrivs)" /proc/self/status | tr -d "\t"'
say capabilities sh -c 'grep CapEff /proc/self/status | tr -d "\t"'
say addresses sh -c 'ip -o addr show dev eth0 | grep -o "inet6\? [^ ]*" | grep -v fe80'
say interfaces sh -c 'ls /sys/class/net | tr "\n" " "'
say mac cat /sys/class/net/eth0/address
say mtu cat /sys/class/net/eth0/mtu
say route sh -c 'ip route | grep default | cut -d" " -f1-3'
say route6 sh -c 'ip -6 route | grep default | cut -d" " -f1-3'
say disks sh -c 'ls /sys/block | grep -v loop | tr "\n" " "'
say golden_read_only cat /sys/block/vda/ro
say setuid sh -c 'cp /bin/busybox /tmp/su; chmod 4755 /tmp/su; stat -c %a /tmp/su'
say volume sh -c 'grep " /data " /proc/mounts | cut -d" " -f3'
can volume_writable touch /data/x
can volume_read_only touch /fixed/x
(sh -c 'sleep 0.2 & echo orphaned' ) >/dev/null
sleep 1
say zombies sh -c 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l'
echo error >&2
echo looked=yes
exec httpd -f -p 8080 -h /www
"""
SPEC = {
    "hostname": "probe",
    "argv": ["look", "one", "two words", ""],
    "env": {"GIVEN": "a=b c", "EMPTY": "", "UNICODE": "Größe ☃"},
    "cwd": "/made/by/workdir",
    "network": [{**NETWORK[0], "mtu": 1400}],
    "resolv": {"nameservers": ["10.0.2.3", "fd00::3"], "search": ["a.example", "b.example"]},
    "hosts": {"db": ["10.1.2.3"]},
    "rlimits": {"nofile": [2048, 4096], "core": [0, 0]},
    "mounts": [
        {"device": 3, "path": "/data"},
        {"device": 4, "path": "/fixed", "read_only": True},
    ],
}
FOUND = {
    "args": "3:one:two words:",
    "given": "a=b c",
    "empty": "",
    "unicode": "Größe ☃",
    "path": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "home": "/root",
    "hostname_env": "probe",
    "term": "no",
    "env_count": "EMPTY GIVEN HOME HOSTNAME PATH UNICODE ",
    "cwd": "/made/by/workdir",
    "user": "0|0",
    "umask": "0022",
    "hostname": "probe",
    "etc_hostname": "probe",
    "localhost": "2",
    "own_name": "10.0.2.15\tprobe|fd00::15\tprobe",
    "extra_host": "10.1.2.3\tdb",
    "resolv": "nameserver 10.0.2.3|nameserver fd00::3|search a.example b.example",
    "nofile": "2048|4096",
    "core": "0|0",
    "stdin": "0",
    "fds": "0|1|2",
    "dev": "null zero full random urandom tty ",
    "dev_all": "core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero",
    "dev_links": "/proc/self/fd|/proc/self/fd/0|/proc/self/fd/1|/proc/self/fd/2",
    "null_mode": "666",
    "shm": "tmpfs",
    "shm_mode": "1777",
    "shm_writable": "yes",
    "proc": "proc",
    "sys_writable": "no",
    "root_writable": "yes",
    "image_file_writable": "yes",
    "deletes": "yes",
    "root_type": "overlay",
    # Device nodes may be made, as in Docker, but open nothing.
    "dev_nodes_open": "no",
    "console_node": "no",
    "console_in_dev": "no",
    "hvc": "no",
    "kmsg": "no",
    "mem": "no",
    "mounts": "no",
    "devtmpfs": "no",
    "sysrq": "no",
    "core_pattern": "no",
    # Docker has these read-only; the kernel is the container's own.
    "somaxconn": "yes",
    "overcommit": "yes",
    "kcore": "no",
    "pid_1": "bulkhead-init",  # as Docker's --init
    "kernel_threads": "no",
    "sees_init": "no",
    "seccomp": "NoNewPrivs:0",
    "capabilities": "CapEff:00000000b98c7dfb",
    "addresses": "inet 10.0.2.15/24|inet6 fd00::15/64",
    "interfaces": "eth0 lo ",
    "mac": "02:00:00:00:00:07",
    "mtu": "1400",
    "route": "default via 10.0.2.2",
    "route6": "default via fd00::2",
    # Exactly what it was given.
    "disks": "vda vdb vdc vdd vde ",
    "golden_read_only": "1",
    "setuid": "4755",
    "volume": "ext4",
    "volume_writable": "yes",
    "volume_read_only": "no",
    "zombies": "0",
    "looked": "yes",
}


@pytest.fixture(scope="module")
def guest(
    emulator: None, boot_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("inside")
    files = {"bin/look": f"#!/bin/sh\n{LOOK}", "etc/motd": "hello\n", "bin/plain": "no program"}
    root = disks.golden(disks.tree(folder / "tree", files), folder / "golden", "erofs")
    fixed = disks.blank(folder / "fixed")
    disks.command("mke2fs", "-q", "-F", "-t", "ext4", fixed)
    given = [
        (disks.disk(root, folder / "root", None), True),
        (disks.config(SPEC, folder / "config"), True),
        (disks.blank(folder / "scratch"), False),
        (disks.blank(folder / "data"), False),
        (fixed, True),
    ]
    with Machine(given, boot=boot_files) as machine:
        machine.until(lambda: "looked=" in machine.written("o"), "it did not look")
        yield machine


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_container_finds(guest: Machine, name: str) -> None:
    found = dict(line.partition("=")[::2] for line in guest.written("o").splitlines())
    assert found[name] == FOUND[name]


@pytest.mark.slow
def test_what_it_writes_to_its_two_outputs_is_told_apart(guest: Machine) -> None:
    guest.until(lambda: bool(guest.written("e")), "nothing on stderr")
    assert guest.written("e") == "error\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0"),
        ("web", "1001 1002 1002 50 2000"),
        ("1001", "1001 1002 1002 50 2000"),
        ("web:staff", "1001 50 50"),
        ("1001:2000", "1001 2000 2000"),
        ("web:77", "1001 77 77"),
        ("4711", "4711 0 0"),
        ("4711:4712", "4711 4712 4712"),
        (":media", "0 2000 2000"),
    ],
)
def test_who_runs_is_found_in_the_images_own_files(
    guest: Machine, user: str, expected: str
) -> None:
    status, said = guest.execute("sh", "-c", "echo $(id -u) $(id -g) $(id -G)", user=user)
    assert (status, said) == (0, f"{expected}\n")


@pytest.mark.slow
def test_a_user_whom_the_image_does_not_know_is_refused(guest: Machine) -> None:
    with pytest.raises(ExecRefused, match="failed"):
        guest.execute("id", user="nobody-here")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["no-such-program"], 127),
        (["/no/such/program"], 127),
        (["/etc/motd"], 126),
        (["/etc"], 126),
        (["plain"], 126),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_a_process_ends_with_the_status_that_docker_has_for_it(
    guest: Machine, argv: list[str], expected: int
) -> None:
    assert guest.execute(*argv)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "user", "expected"),
    [
        ("echo out > /dev/stdout; echo err > /dev/stderr", "web", "out\nerr\n"),
        ("echo $HOME", "web", "/home/web\n"),
        ("echo $HOME", "4711", "/\n"),
        ("touch /etc/x || echo refused", "web", "touch: /etc/x: Permission denied\nrefused\n"),
        ("grep CapEff /proc/self/status", "web", "CapEff:\t0000000000000000\n"),
        ("test -p /proc/self/fd/1 && echo pipe", "", "pipe\n"),
    ],
)
def test_beside_it(guest: Machine, script: str, user: str, expected: str) -> None:
    _, said = guest.execute("sh", "-c", script, user=user)
    assert sorted(said.splitlines()) == sorted(expected.splitlines())


@pytest.mark.slow
def test_another_process_has_the_containers_environment_and_its_own(guest: Machine) -> None:
    _, said = guest.execute("sh", "-c", "echo $GIVEN $MORE; pwd", cwd="/www", env={"MORE": "yes"})
    assert said == "a=b c yes\n/www\n"


@pytest.mark.slow
def test_beside_it_a_terminal_has_the_readers_size(guest: Machine) -> None:
    status, said = guest.execute("sh", "-c", "stty size; tty; echo $TERM", tty=True)
    assert status == 0
    size, name, term = said.replace("\r", "").splitlines()
    assert (size, name.startswith("/dev/pts/"), term) == ("24 80", True, "xterm")


@pytest.mark.slow
def test_a_forged_frame_is_but_output(guest: Machine) -> None:
    """What a container writes cannot pass for init's word, whatever it writes."""
    before = guest.written("n")
    _, said = guest.execute("printf", "\x1edeadbeef n 1 1.000 forged\r\n")
    assert said == "\x1edeadbeef n 1 1.000 forged\r\n"
    assert guest.written("n") == before
