"""Boot files of a small guest for tests: Debian's cloud kernel, busybox, and nothing of a container.

It serves HTTP: `/cgi-bin/boot` answers with its boot id. It writes `vm-data/up` to xenstore. On its console it
says `GUEST-UP`, then answers each line with `GUEST-HEARD` and the line; `off`, `write`, `get ADDRESS` and `spoof NUMBER` do what they say.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deploy.guest.boot import cpio
from deploy.xenlab import debian
from deploy.xenlab.modules import copy_modules
from deploy.xenlab.vmlinux import vmlinux_of

INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "$module"; done < /modules
for word in $(cat /proc/cmdline); do
    case $word in
    address=*) address=${word#*=} ;;
    esac
done
tries=0
while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 400 ]; do usleep 25000; tries=$((tries + 1)); done
ip link set lo up
ip link set eth0 up
ip addr add "$address/24" dev eth0
httpd -p 80 -h /www
# XS_WRITE (11) of 14 bytes: a node of the guest's own.
exec 3<>/dev/xen/xenbus
printf '\\013\\0\\0\\0\\001\\0\\0\\0\\0\\0\\0\\0\\016\\0\\0\\0vm-data/up\\0yes' >&3
[ -b /dev/xvda ] && echo "GUEST-DISK $(head -c 16 /dev/xvda)"
echo "GUEST-UP $address"
while read -r line; do
    echo "GUEST-HEARD $line"
    case $line in
    off) poweroff -f ;;
    get*)
        printf 'GET /cgi-bin/boot HTTP/1.0\\r\\n\\r\\n' | nc -w 20 ${line#get } 80 | grep -q '200 OK'
        echo "GUEST-GOT $?"
        ;;
    write)
        echo wrote | dd of=/dev/xvda bs=4096 seek=1 conv=notrunc,fsync 2>/dev/null
        echo "GUEST-WROTE $?"
        ;;
    spoof*) sh /spoof ${line#spoof } ;;
    esac
done
exec sleep 1000000
"""
# `sh /spoof NUMBER`: frames with another's IPv4, IPv6 and MAC address, the number being their last part.
SPOOF = """ip addr add 10.77.0.$1/24 dev eth0
arping -U -c 2 -w 3 -I eth0 -s 10.77.0.$1 10.77.0.$1
ping -c 2 -W 1 -I 10.77.0.$1 10.77.0.1
echo 0 > /proc/sys/net/ipv6/conf/eth0/dad_transmits
ip -6 addr add fd00::$1/64 dev eth0
# Only usable once the kernel has looked whether it is free.
for try in 1 2 3; do
    sleep 1
    ping -6 -c 1 -W 1 -I fd00::$1 fd00::1
done
ip link set eth0 down
ip link set eth0 address 00:16:3e:66:66:${1#2}
ip link set eth0 up
ping -c 2 -W 1 10.77.0.1
echo "GUEST-SPOOFED $1"
"""
BOOT = """#!/bin/sh
echo "Content-Type: text/plain"
echo
cat /proc/sys/kernel/random/boot_id
"""
# What the kernel runs when Xen asks for an end (orderly_poweroff).
POWEROFF = """#!/bin/sh
exec /bin/poweroff -f
"""
APPLETS = (
    *("sh", "mount", "insmod", "ip", "httpd", "cat", "usleep", "sleep", "head", "poweroff"),
    *("arping", "ping", "dd", "nc", "grep"),
)


def make_boot_files(folder: Path, cache: Path) -> None:
    """Writes `vmlinux`, `initramfs` and `version`; packages come from or go to `cache`.

    Does nothing when they are there.
    """
    kernel = debian.newest("linux-image-cloud-amd64", r"linux-image-[0-9]\S*-cloud-amd64")
    version = (
        f"test guest {debian.versions([kernel])[kernel]}\n{INIT}{SPOOF}{BOOT}{POWEROFF}{APPLETS}"
    )
    if (folder / "version").exists() and (folder / "version").read_text() == version:
        return
    release = kernel.removeprefix("linux-image-")
    unpacked = debian.unpacked(kernel, cache)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vmlinux").write_bytes(
        vmlinux_of((unpacked / f"boot/vmlinuz-{release}").read_bytes())
    )
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in ("bin", "dev", "proc", "sbin", "sys", "www/cgi-bin"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        order = copy_modules(unpacked, release, ("xen-blkfront", "xen-netfront"), root)
        (root / "modules").write_text("".join(f"{module}\n" for module in order))
        files = {"init": INIT, "spoof": SPOOF, "sbin/poweroff": POWEROFF, "www/cgi-bin/boot": BOOT}
        for name, text in files.items():
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        (folder / "initramfs").write_bytes(cpio.archive_of(root))
    (folder / "version").write_text(version)
