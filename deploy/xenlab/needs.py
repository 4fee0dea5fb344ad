"""What the machine that runs the lab must have, and how to install what it lacks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deploy.xenlab.errors import XenlabError

# A program (or a file) the lab uses: the Debian package that brings it.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "zstd": "zstd",
    "lz4": "lz4",
    "ip": "iproute2",
    "ss": "iproute2",
}
FILES = {
    "/bin/busybox": "busybox-static",
    "/usr/share/seabios/bios-256k.bin": "seabios",
    "/dev/net/tun": "",
}


def missing_packages() -> list[str]:
    """Debian packages that the lab needs and this machine lacks."""
    found = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    packages = {p for name, p in PROGRAMS.items() if shutil.which(name, path=found) is None}
    packages |= {p for name, p in FILES.items() if p and not Path(name).exists()}
    return sorted(packages)


def obstacles() -> list[str]:
    """Why the lab cannot run here, in sentences; empty when it can."""
    reasons = []
    if os.geteuid() != 0:
        reasons.append("the lab makes network namespaces and devices: it must run as root")
    if os.uname().machine != "x86_64":
        reasons.append(f"the lab's hosts are x86_64 and this machine is {os.uname().machine}")
    if missing := missing_packages():
        install = f"apt-get install --no-install-recommends {' '.join(missing)}"
        reasons.append(f"Debian packages are missing: {install}")
    if not Path("/dev/net/tun").exists():
        reasons.append("/dev/net/tun is missing: hosts have no network without it")
    return reasons


def check() -> None:
    """Raises XenlabError `lab_impossible` with every reason at once."""
    if reasons := obstacles():
        raise XenlabError("lab_impossible", "\n".join(reasons))
