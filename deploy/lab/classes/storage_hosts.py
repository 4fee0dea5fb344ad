"""Which host works on an SR (message_forwarding.ml, forward_sr_op)."""

from __future__ import annotations

from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.machine import Machine


async def machine_for(call: Call, sr: Row) -> Machine:
    """The host that carries out work on the SR: the coordinator if it can.

    Raises SR_HAS_NO_PBDS [sr], CANNOT_CONTACT_HOST [host].
    """
    hosts = [pbd.host for pbd in call.db.rows("PBD", sr.PBDs) if pbd.currently_attached]
    if not hosts:
        raise XapiError("SR_HAS_NO_PBDS", sr.ref)
    coordinator = call.lab.coordinator.host.ref
    if coordinator in hosts:
        return await forward(call, coordinator)
    answering = [host for host in hosts if call.lab.machine(host).answers_coordinator]
    return await forward(call, (answering or hosts)[0])


def sees(call: Call, machine: Machine, sr: Row) -> bool:
    """Whether the machine's host has the SR plugged."""
    return any(
        pbd.host == machine.host.ref and pbd.currently_attached
        for pbd in call.db.rows("PBD", sr.PBDs)
    )
