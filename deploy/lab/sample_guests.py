"""A few VMs in a fresh pool, as somebody's programs would have made them (`--sample-guests`).

They make a demonstration's pages worth looking at before anything else has made a VM.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from deploy.lab.samples import GIB, MIB, vbd_record, vdi_record, vif_record, vm_record

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

GUESTS = (("web-1", 1024, 2), ("web-2", 1024, 2), ("database", 4096, 4), ("queue", 512, 1))
"""Name, MiB of memory, vCPUs."""
DISK = 8 * GIB


async def make_guests(lab: Lab) -> None:
    """Make them through the API and start them; their starts end later."""
    session = lab.sessions.open("root", lab.config.password, "sample guests", lab.coordinator)

    async def call(method: str, *arguments: Any) -> Any:
        result = lab.dispatcher.call(lab.coordinator, method, [session.ref, *arguments])
        return await result if inspect.isawaitable(result) else result

    (network,) = await call("network.get_all_where", 'field "bridge" = "xenbr0"')
    for name, memory, vcpus in GUESTS:
        vm = await call("VM.create", vm_record(name, memory=memory * MIB, vcpus=vcpus))
        vdi = await call("VDI.create", vdi_record(f"{name} disk", lab.pool.default_SR, size=DISK))
        await call("VBD.create", vbd_record(vm, vdi))
        await call("VIF.create", vif_record(vm, network))
        await call("Async.VM.start", vm, False, False)
    lab.sessions.close(session)
