"""How a domain boots here: always a kernel in dom0, since there is no device model.

XAPI's `pv` and `pvh` with PV_kernel name files in dom0 (XAPI.md 2.1); everything else, HVM from disk
included, gets the lab's own kernel and initramfs, and finds its root on its first disk.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from deploy.lab.database import Row
from deploy.lab.domains import domain_type
from deploy.lab.errors import XapiError

DIRECTORY = "/boot/guest"
ALLOWED = (DIRECTORY, "/var/lib/xcp/guest")
"""Where XAPI lets such files lie, by version; in the lab's dom0 both are the first."""


@dataclass(frozen=True)
class Boot:
    """What guests boot that name no kernel of their own. Paths are dom0's."""

    type: str = "pvh"
    """`pvh` or `pv`."""
    kernel: str = f"{DIRECTORY}/vmlinux"
    ramdisk: str = f"{DIRECTORY}/initramfs"
    arguments: str = "console=hvc0 panic=1 net.ifnames=0 quiet"

    def of(self, vm: Row) -> dict[str, str]:
        """The agent's `type`, `kernel`, `ramdisk`, `args`. Raises INVALID_VALUE [field, value]."""
        wanted = domain_type(vm)
        if wanted not in ("pv", "pvh", "pv_in_pvh") or not vm.PV_kernel:
            return {
                "type": self.type,
                "kernel": self.kernel,
                "ramdisk": self.ramdisk,
                "args": self.arguments,
            }
        return {
            "type": "pv" if wanted == "pv" else "pvh",
            "kernel": _file("PV_kernel", vm.PV_kernel),
            "ramdisk": _file("PV_ramdisk", vm.PV_ramdisk) if vm.PV_ramdisk else "",
            "args": vm.PV_args,
        }


def _file(field: str, path: str) -> str:
    folder, name = posixpath.split(posixpath.normpath(path))
    if folder not in ALLOWED or not name:
        raise XapiError("INVALID_VALUE", field, path)
    return f"{DIRECTORY}/{name}"
