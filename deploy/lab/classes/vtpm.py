"""Virtual TPMs, whose state is a secret (xen-api xapi_vtpm.ml)."""

from __future__ import annotations

import base64
import binascii

from deploy.lab.classes.vm_lifecycle import HALTED, assert_power_state, check_operation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.operations import refresh


@message("VTPM.create")
def create(call: Call, vm: str, is_unique: bool) -> str:
    """Raises VM_BAD_POWER_STATE, VTPM_MAX_AMOUNT_REACHED; with HA NOT_IMPLEMENTED."""
    owner = call.db.get("VM", vm)
    check_operation(call.lab, owner, "create_vtpm")
    if call.lab.pool.ha_enabled:
        raise XapiError("NOT_IMPLEMENTED", "VTPM.create with HA or clustering enabled")
    contents = call.db.create("secret", value="")
    vtpm = call.db.create("VTPM", VM=vm, is_unique=is_unique, contents=contents.ref)
    refresh(call.lab, owner)
    return vtpm.ref


@message("VTPM.destroy")
def destroy(call: Call, vtpm: Row) -> None:
    vm = call.db.get("VM", vtpm.VM)
    assert_power_state(vm, HALTED)
    call.db.delete(call.db.get("secret", vtpm.contents))
    call.db.delete(vtpm)
    refresh(call.lab, vm)


@message("VTPM.get_contents")
def get_contents(call: Call, vtpm: Row) -> str:
    value: str = call.db.get("secret", vtpm.contents).value
    return value


@message("VTPM.set_contents")
def set_contents(call: Call, vtpm: Row, contents: str) -> None:
    """Raises INTERNAL_ERROR unless it is base64."""
    try:
        base64.b64decode(contents, validate=True)
    except binascii.Error as error:
        raise XapiError("INTERNAL_ERROR", str(error)) from None
    old = call.db.get("secret", vtpm.contents)
    call.db.update(vtpm, contents=call.db.create("secret", value=contents).ref)
    call.db.delete(old)
