"""How long a start takes until the first HTTP answer: a blank VM that gets its disks, against an OCI container.

    python -m benchmarks.start [--short] [--rounds N] [--only VARIANT …]

On one emulated host of the Xen lab (fully emulated: only ratios mean something), in turns:

    container   crun with a network namespace and a veth pair in dom0; its root is the same erofs, from a local file,
                under an overlay; no cgroup, no seccomp filter
    warm        a PVH VM of ours that was booted blank, with a scratch disk and an interface that leads nowhere,
                and paused: the interface moved to its network and locked, config and root attached and plugged,
                unpaused
    warm-pv     the same as PV, of which an emulated processor runs the guest's part faster
    warm-xapi   the same as XAPI allows it, which plugs only into running VMs: unpaused, then one after the other
    bare        like warm-xapi, of a blank that has no device yet: all four are plugged, and scratch is formatted
    resume      a PVH VM of ours from its saved memory
    resume-pv   the same as PV
    cold-pvh    a VM of ours, made and booted
    cold-pv     the same as PV

The server is busybox httpd, in an image made by the product's builder. VMs get root, config and a blank scratch disk
over NBD, and an interface that is locked. The host has two emulated processors. Everybody is asked from the lab's own
network namespace. The agent is asked directly: what XAPI's daemons and Bulkhead add is not in it (benchmarks.overhead measures that).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import socket
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, report
from benchmarks.start_disks import (
    SERVER,
    DiskServer,
    build_root,
    clear,
    file_system,
    write_config,
)
from deploy.guest.__main__ import HERE as GUEST
from deploy.guest.__main__ import build as build_guest
from deploy.xenlab.client import Agent, connect
from deploy.xenlab.commands import run
from deploy.xenlab.image import Extra
from deploy.xenlab.lab import XenLab
from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import GATEWAY, plan

GOAL = 1.0
GOALS = {
    "warm": 1.0,
    "warm-pv": 1.0,
    "warm-xapi": 1.0,
    "bare": 1.0,
    "resume": 1.5,
    "resume-pv": 1.5,
    "cold-pvh": 3.0,
    "cold-pv": 3.0,
}
VARIANTS = (
    "container",
    "warm",
    "warm-pv",
    "warm-xapi",
    "bare",
    "resume",
    "resume-pv",
    "cold-pvh",
    "cold-pv",
)
MEMORY_MIB = 96
ROOT_DISK, CONFIG, SCRATCH = range(3)
BRIDGE, PARKING = "xenbr0", "parking"
ARGUMENTS = "console=hvc0 panic=1 net.ifnames=0 quiet"
FIRST_ADDRESS = 200
FIRST_PORT = 12000
SHELL_PORT = 7702
LIMIT = 180.0
PACE = 0.02
MOST_TRIES = 100
EXTRA = Extra(
    packages=("crun", "iproute2"),
    modules=("erofs", "overlay", "veth", "loop"),
    files={"etc/xenlab/also": (Path(__file__).parent / "start_dom0.py").read_text()},
)


@dataclass
class Start:
    """Seconds until the first answer, and of them what each part took."""

    total: float
    parts: dict[str, float] = field(default_factory=dict)


class Bench:
    """One host, its agent, and what happened on it when."""

    def __init__(self, lab: XenLab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.host = lab.plan.hosts[0]
        self.agent = Agent(lab.plan, self.host, timeout=LIMIT)
        self.root = build_root(folder)
        self.told: list[tuple[float, dict[str, Any]]] = []
        self._shell = self._connect(SHELL_PORT).makefile("rwb")
        threading.Thread(target=self._listen, daemon=True).start()
        name = lab.plan.namespace
        for key, value in (("retrans_time_ms", 50), ("mcast_solicit", 3)):
            path = f"/proc/sys/net/ipv4/neigh/lab0/{key}"
            run(["ip", "netns", "exec", name, "sh", "-c", f"echo {value} > {path}"], timeout=10)

    def _connect(self, port: int) -> socket.socket:
        with inside(self.lab.plan.namespace):
            connection = socket.socket()
        connection.settimeout(LIMIT)
        connection.connect((self.host.address, port))
        return connection

    def _listen(self) -> None:
        hearer = Agent(self.lab.plan, self.host, timeout=24 * 3600.0)
        hearer.call("hello")
        with suppress(OSError):  # the host's end
            while True:
                event = hearer.event()
                self.told.append((time.monotonic(), event))

    def shell(self, script: str) -> str:
        """Run it in dom0; what it wrote."""
        self._shell.write(json.dumps({"sh": script}).encode() + b"\n")
        self._shell.flush()
        answer = json.loads(self._shell.readline())
        if answer["status"]:
            raise RuntimeError(f"in dom0: {answer['out']}")
        return str(answer["out"])

    def put(self, name: str, data: bytes) -> None:
        """A file in dom0's /boot/guest."""
        with connect(self.lab.plan, self.host, timeout=LIMIT) as connection:
            head = json.dumps({"put_file": name, "size": len(data)}).encode() + b"\n"
            connection.sendall(head + data)
            if b"result" not in connection.recv(4096):
                raise RuntimeError(f"dom0 does not take {name}")

    def when(self, identity: str, path: str) -> float | None:
        """When the guest wrote this last, as far as dom0 told."""
        times = [at for at, e in self.told if e.get("uuid") == identity and e.get("path") == path]
        return times[-1] if times else None

    def until_answer(self, address: str) -> float:
        """When the server answered first.

        A new connection is tried each `PACE` beside those under way: of one whose first packet is lost nothing is
        heard for a second.
        """
        until = time.monotonic() + LIMIT
        tries: list[socket.socket] = []
        try:
            while time.monotonic() < until:
                with inside(self.lab.plan.namespace):
                    tries.append(socket.socket())
                tries[-1].setblocking(False)
                tries[-1].connect_ex((address, 80))
                for connection in select.select([], tries, [], PACE)[1]:
                    if _answers(connection):
                        return time.monotonic()
                    tries.remove(connection)
                    connection.close()
                    time.sleep(PACE)
                while len(tries) > MOST_TRIES:
                    tries.pop(0).close()
        finally:
            for connection in tries:
                connection.close()
        raise RuntimeError(f"{address} does not answer")

    def forget_neighbours(self) -> None:
        name = self.lab.plan.namespace
        run(["ip", "-n", name, "neigh", "flush", "dev", "lab0"], timeout=10)


def _answers(connection: socket.socket) -> bool:
    """Whether a connection that was made, or refused, leads to an HTTP server."""
    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return False
    connection.settimeout(LIMIT)
    try:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.")
    except OSError:
        return False


class Container:
    """The baseline."""

    def __init__(self, bench: Bench, number: int) -> None:
        self._bench = bench
        self._address = f"10.77.0.{FIRST_ADDRESS + number}"
        bench.put("bench-root", file_system(bench.root))
        bundle = {
            "ociVersion": "1.0.0",
            "process": {"user": {"uid": 0, "gid": 0}, "args": SERVER, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "hostname": "web",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "mount", "uts", "ipc")),
                    {"type": "network", "path": "/run/netns/bench"},
                ]
            },
        }  # fmt: skip
        bundle["process"]["capabilities"] = {  # type: ignore[index]
            kind: ["CAP_NET_BIND_SERVICE"] for kind in ("bounding", "effective", "permitted")
        }
        outside = (
            "netns add bench\nlink add vbench type veth peer name eth0 netns bench\n"
            "link set vbench master xenbr0 up\n"
        )
        within = (
            f"addr add {self._address}/24 dev eth0\nlink set eth0 up\n"
            f"link set lo up\nroute add default via {GATEWAY}\n"
        )
        bench.put("bench-config", json.dumps(bundle).encode())
        bench.put("bench-outside", outside.encode())
        bench.put("bench-within", within.encode())

    def prepare(self) -> None:
        self._bench.shell(
            "mkdir -p /run/bench/lower /run/bench/b/rootfs /var/lib/bench/upper /var/lib/bench/work;"
            "busybox cp /boot/guest/bench-config /run/bench/b/config.json;"
            "busybox grep -q cgroup2 /proc/mounts ||"
            " busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )

    def start(self) -> Start:
        began = time.monotonic()
        self._bench.shell(
            "set -e; busybox mount -t erofs -o loop,ro /boot/guest/bench-root /run/bench/lower;"
            "busybox mount -t overlay -o lowerdir=/run/bench/lower,upperdir=/var/lib/bench/upper,"
            "workdir=/var/lib/bench/work overlay /run/bench/b/rootfs;"
            "/usr/bin/ip -batch /boot/guest/bench-outside; /usr/bin/ip -n bench -batch /boot/guest/bench-within;"
            "crun --cgroup-manager=disabled run -d --bundle /run/bench/b bench > /run/bench/said 2>&1"
            " || { busybox cat /run/bench/said; exit 1; }"
        )
        asked = time.monotonic()
        answered = self._bench.until_answer(self._address)
        return Start(answered - began, {"engine": asked - began, "app": answered - asked})

    def end(self) -> None:
        self._bench.shell(
            "crun delete -f bench; /usr/bin/ip netns del bench; busybox ip link del vbench 2>/dev/null;"
            "busybox umount /run/bench/b/rootfs; busybox umount -d /run/bench/lower;"
            "busybox rm -rf /var/lib/bench"
        )


class Vm:
    """What all VMs have: disks of their own, served on ports of their own."""

    kind = "pvh"

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench, self.agent = bench, bench.agent
        self.identity = str(uuid.uuid4())
        self.address = f"10.77.0.{FIRST_ADDRESS + number}"
        mac = f"00:16:3e:77:01:{number:02x}"
        folder = bench.folder / str(number)
        folder.mkdir()
        self.scratch = folder / "scratch"
        write_config(folder / "config", mac, self.address)
        clear(self.scratch)
        files = (bench.root, folder / "config", self.scratch)
        self.servers = [
            DiskServer(bench.lab.plan, file, f"b{number}-{i}", FIRST_PORT + 10 * number + i)
            for i, file in enumerate(files)
        ]
        self.disks = [
            {"device": i, "vdi": one.name, "read_only": i < 2} for i, one in enumerate(self.servers)
        ]
        self.vif = {"device": 0, "mac": mac}
        self.locked = {"bridge": BRIDGE, "locked": True, "ipv4": [self.address], "ipv6": []}
        self.vifs = [{**self.vif, **self.locked}]

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def attach(self, *which: int) -> None:
        exports = [
            {
                "vdi": server.name,
                "read_only": disk["read_only"],
                "host": GATEWAY,
                "port": server.port,
                "export": server.name,
            }
            for number, (server, disk) in enumerate(zip(self.servers, self.disks, strict=True))
            if not which or number in which
        ]
        self.agent.calls("disk_attach", exports)

    def plug(self, *which: int) -> None:
        self.attach(*which)
        self.agent.call("plug", uuid=self.identity, disks=[self.disks[n] for n in which])

    def create(self, arguments: str, disks: list[Any], vifs: list[Any], *, paused: bool) -> None:
        self.agent.call(
            "create",
            uuid=self.identity,
            memory_mib=MEMORY_MIB,
            vcpus=1,
            type=self.kind,
            kernel="/boot/guest/vmlinux",
            ramdisk="/boot/guest/initramfs",
            args=arguments,
            disks=disks,
            vifs=vifs,
            xenstore={},
            paused=paused,
        )

    def prepare(self) -> None:
        clear(self.scratch)

    def start(self) -> Start:
        began = time.monotonic()
        marks = [("disks", began)]
        for name in self.ask():
            marks.append((name, time.monotonic()))
        answered = self.bench.until_answer(self.address)
        kernel = self.bench.when(self.identity, "control/feature-poweroff")
        ready = self.bench.when(self.identity, "vm-data/ready")
        if kernel is not None and kernel > marks[-1][1] and self.boots:
            marks.append(("kernel", kernel))
        if ready is not None and marks[-1][1] < ready < answered:
            marks.append(("init", ready))
        marks.append(("app" if marks[-1][0] == "init" else "guest", answered))
        parts = {name: at - before for (_, before), (name, at) in itertools.pairwise(marks)}
        return Start(answered - began, parts)

    boots = True

    def ask(self) -> Iterator[str]:
        """Ask the agent for what a start is; yields each part's name when it is done."""
        self.attach()
        yield "disks"
        self.create(ARGUMENTS, self.disks, self.vifs, paused=True)
        yield "build"
        self.agent.call("unpause", uuid=self.identity)
        yield "unpause"

    def end(self) -> None:
        self.agent.call("destroy", uuid=self.identity)
        for server in self.servers:
            self.agent.call("disk_detach", vdi=server.name)
        self.identity = str(uuid.uuid4())


class ColdPv(Vm):
    kind = "pv"


class Blank(Vm):
    """One that has booted. `given`: disks that it has from the first, and with them an interface."""

    boots = False
    given: tuple[int, ...] = (SCRATCH,)

    def prepare(self) -> None:
        super().prepare()
        if self.given:
            self.attach(*self.given)
        disks = [self.disks[number] for number in self.given]
        parked = {**self.vif, "bridge": PARKING, "disabled": True}
        vifs = [parked] if self.given else []
        self.create(f"{ARGUMENTS} bulkhead.blank", disks, vifs, paused=False)
        until = time.monotonic() + LIMIT
        while self.bench.when(self.identity, "vm-data/blank") is None:
            if time.monotonic() > until:
                raise RuntimeError("a blank VM does not come up")
            time.sleep(PACE)
        self.agent.call("pause", uuid=self.identity)

    def link(self) -> None:
        locked = {**self.locked, "disabled": False}
        self.agent.call("vif_move", uuid=self.identity, device=0, **locked)


class Warm(Blank):
    def ask(self) -> Iterator[str]:
        self.link()
        yield "link"
        self.attach(CONFIG, ROOT_DISK)
        yield "disks"
        self.agent.call("plug", uuid=self.identity, disks=self.disks[:SCRATCH])
        yield "plug"
        self.agent.call("unpause", uuid=self.identity)
        yield "unpause"


class WarmPv(Warm):
    kind = "pv"


class WarmXapi(Blank):
    def ask(self) -> Iterator[str]:
        self.agent.call("unpause", uuid=self.identity)
        yield "unpause"
        self.plug(CONFIG)
        yield "config"
        self.link()
        yield "link"
        self.plug(ROOT_DISK)
        yield "root"


class Bare(Blank):
    given = ()

    def ask(self) -> Iterator[str]:
        self.agent.call("unpause", uuid=self.identity)
        yield "unpause"
        self.plug(CONFIG)
        self.plug(SCRATCH)
        yield "config and scratch"
        self.agent.call("plug", uuid=self.identity, vifs=self.vifs)
        yield "interface"
        self.plug(ROOT_DISK)
        yield "root"


class Resume(Vm):
    """Saved once; its scratch disk is put back to what it was then."""

    boots = False

    def __init__(self, bench: Bench, number: int) -> None:
        super().__init__(bench, number)
        for _ in super().ask():
            pass
        bench.until_answer(self.address)
        self._state = f"bench-{number}"
        self.agent.call("save", uuid=self.identity, path=self._state)
        for server in self.servers:
            self.agent.call("disk_detach", vdi=server.name)
        self._kept = self.scratch.read_bytes()

    def prepare(self) -> None:
        clear(self.scratch)
        with self.scratch.open("r+b") as file:
            file.write(self._kept)

    def ask(self) -> Iterator[str]:
        self.attach()
        yield "disks"
        devices = {"disks": self.disks, "vifs": self.vifs}
        self.agent.call("restore", uuid=self.identity, path=self._state, paused=False, **devices)
        yield "restore"

    def end(self) -> None:
        identity = self.identity
        super().end()
        self.identity = identity


class ResumePv(Resume):
    kind = "pv"


MAKERS: dict[str, Callable[[Bench, int], Any]] = {
    "container": Container,
    "warm": Warm,
    "warm-pv": WarmPv,
    "warm-xapi": WarmXapi,
    "bare": Bare,
    "resume": Resume,
    "resume-pv": ResumePv,
    "cold-pvh": Vm,
    "cold-pv": ColdPv,
}


@contextmanager
def host() -> Iterator[Bench]:
    """A host of our own."""
    boot = GUEST / "out"
    build_guest(boot)
    state = ROOT / ".xenlab"
    lab = XenLab(plan(state, name=f"bench-{os.getpid()}", hosts=1, image=state / "bench-image"))
    lab.build(boot, EXTRA)
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up(saved=False)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield Bench(lab, Path(folder))


def measure(bench: Bench, names: list[str], rounds: int) -> dict[str, list[Start]]:
    found: dict[str, list[Start]] = {name: [] for name in names}
    with ExitStack() as stack:
        makers = {name: MAKERS[name](bench, number) for number, name in enumerate(names, 1)}
        for one in makers.values():
            if isinstance(one, Vm):
                stack.callback(one.close)
        for number in range(rounds):
            for name, one in makers.items():
                one.prepare()
                bench.forget_neighbours()
                start = one.start()
                one.end()
                found[name].append(start)
                parts = "  ".join(f"{part} {s:.2f}" for part, s in start.parts.items())
                print(
                    f"{number + 1}  {name:10} {start.total:6.2f} s   {parts}"
                    f"   load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
    return found


def show(found: dict[str, list[Start]]) -> bool:
    """Says what was found; whether warm starts, if they were measured, meet their goal."""
    baselines = [start.total for start in found["container"]]
    for name, starts in found.items():
        totals = [start.total for start in starts]
        ratios = [a / b for a, b in zip(totals, baselines, strict=True)]
        parts = {
            part: statistics.median(start.parts.get(part, 0.0) for start in starts)
            for part in starts[0].parts
        }
        listed = ", ".join(f"{part} {seconds:.2f}" for part, seconds in parts.items())
        goal = f", goal {GOALS[name]}" if name in GOALS else ""
        print(
            f"{name:10} median {statistics.median(totals):.2f} s ({listed});"
            f" {statistics.median(ratios):.2f} x container, worst {max(ratios):.2f}{goal}"
        )
    if "warm" not in found:
        return True
    return report(
        "start",
        unit="s",
        values=[start.total for start in found["warm"]],
        baselines=baselines,
        goal=GOAL,
        higher_is_better=False,
        more={
            name: round(
                statistics.median(a.total / b for a, b in zip(starts, baselines, strict=True)),
                3,
            )
            for name, starts in found.items()
        },
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="two rounds of container and warm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=VARIANTS[1:], help="beside the container")
    options = parser.parse_args()
    names = ["container", *(options.only or (["warm"] if options.short else VARIANTS[1:]))]
    small = (GUEST / "out/small/vmlinux").exists()
    with host() as bench:
        kernel = "the small one" if small else "Debian's cloud kernel"
        bench.agent.call("bridge", name=PARKING)
        print(
            f"host: {bench.lab.plan.cpus} CPUs; guests: {MEMORY_MIB} MiB, 1 vCPU, kernel {kernel}; load {os.getloadavg()[0]:.1f}"
        )
        found = measure(bench, names, 2 if options.short else options.rounds)
    return 0 if show(found) else 1


if __name__ == "__main__":
    sys.exit(main())
