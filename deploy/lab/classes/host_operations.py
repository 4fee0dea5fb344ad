"""What may be done with a host now (xapi_host_helpers.ml; recorded: host_evacuate, event_vm_life)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.memory import schedule, unschedule
from deploy.lab.operations import LONGEST_RETRY, SHORTEST_RETRY, allowed_operations, begin, end
from deploy.lab.placement import is_live

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

LISTED = (
    "vm_migrate",
    "provision",
    "vm_resume",
    "apply_updates",
    "enable",
    "reboot",
    "evacuate",
    "power_on",
    "vm_start",
    "shutdown",
)
BRINGING = {"provision", "vm_resume", "vm_migrate"}
EMPTYING = {"evacuate", "reboot", "shutdown"}
ONLY_DISABLED = {"reboot", "shutdown", "apply_updates"}


def check_operation(lab: Lab, host: Row, op: str) -> None:
    """Raise what forbids `op` (a member of the enum host_allowed_operations) on the host now."""
    if op == "power_on":
        _check_power_on(lab, host)
        return
    _check_current_operations(host, op)
    if op in ONLY_DISABLED and host.enabled:
        raise XapiError("HOST_NOT_DISABLED")


def _check_current_operations(host: Row, op: str) -> None:
    for task, current in host.current_operations.items():
        going_down = current in ("reboot", "shutdown") and op in ("reboot", "apply_updates")
        if (
            (op in BRINGING and current in EMPTYING)
            or (op in EMPTYING and current in BRINGING)
            or going_down
        ):
            raise XapiError("OTHER_OPERATION_IN_PROGRESS", "host", host.ref, current, task)


def _check_power_on(lab: Lab, host: Row) -> None:
    if is_live(lab, host):
        raise XapiError("HOST_IS_LIVE", host.ref)
    if host.power_on_mode == "":
        raise XapiError("HOST_POWER_ON_MODE_DISABLED")


@allowed_operations("host")
def allowed(lab: Lab, host: Row) -> list[str]:
    names = []
    for op in LISTED:
        try:
            check_operation(lab, host, op)
        except XapiError:
            continue
        names.append(op)
    return names


@asynccontextmanager
async def given_to_host(
    call: Call, vm: Row, choose: Callable[[], Row], op: str
) -> AsyncIterator[Row]:
    """Choose a host for the VM, count its memory there and hold `op` on the host meanwhile.

    `choose` answers the host or raises what forbids it; it is asked again after each wait.
    """
    lab = call.lab
    deadline = lab.clock.now() + 2 * 3600
    while True:
        host = choose()
        try:
            check_operation(lab, host, op)
        except XapiError as error:
            if error.code != "OTHER_OPERATION_IN_PROGRESS" or lab.clock.now() >= deadline:
                raise
            pause = lab.random.uniform(SHORTEST_RETRY, LONGEST_RETRY)
            await lab.turns.wait(call, host.ref, pause)
        else:
            break
    schedule(lab, vm, host)
    begin(call, host, op)
    try:
        yield host
    finally:
        unschedule(lab, vm, host)
        end(call, host)
