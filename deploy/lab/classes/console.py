"""Records that only the daemon makes: consoles of VMs, dumps of crashed ones."""

from __future__ import annotations

from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError


@message("console.create", "console.destroy")
def refuse(call: Call, _: Any) -> None:
    raise XapiError("NOT_IMPLEMENTED", f"Console.{call.message.name}")


@message("crashdump.destroy")
def destroy_crashdump(call: Call, dump: Row) -> None:
    """The disk goes along if it may."""
    vdi = call.db.find("VDI", dump.VDI)
    if vdi is not None and not vdi.VBDs:
        call.db.delete(vdi)
    call.db.delete(dump)
