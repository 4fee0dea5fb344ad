"""Going on from a saved state: what a pool does when all its power comes back at once.

Machines and their domains are what they were when the lab was saved; whatever was under way is
not, as after a restart of every toolstack: operations are forgotten, tasks, sessions and consoles
are gone, and the database is made to say what really runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row, Snapshot
from deploy.lab.machine import Machine
from deploy.lab.operations import ALLOWED, refresh

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.state import StateFile

KEPT = (
    "powered",
    "toolstack",
    "reachable",
    "isolated",
    "auto_enable",
    "clock_skew",
    "bmc_fault",
)


def save(lab: Lab, state: StateFile) -> None:
    """Write what changed since the last time."""
    state.set_fact("machines", {m.host.uuid: _machine(m) for m in lab.machines.values()})
    state.set_fact("coordinator", lab.coordinator.host.uuid)
    state.set_fact("sleeping", {vm: guest.saved() for vm, guest in lab.sleeping.items()})
    state.set_fact("storage", lab.storage.describe())
    state.save_blocks(*lab.storage.blocks.take_changes())
    state.save(
        lab.db,
        {
            vm: (machine.host.uuid, guest.saved())
            for machine in lab.machines.values()
            for vm, guest in machine.domains.items()
        },
    )


def _machine(machine: Machine) -> dict[str, Any]:
    return {name: getattr(machine, name) for name in KEPT}


def resume(lab: Lab, state: StateFile, saved: Snapshot) -> None:
    """Make `lab`, which has nothing yet, what was saved."""
    lab.db.restore(saved)
    machines = state.fact("machines") or {}
    for host in sorted(lab.db.all("host"), key=lambda row: str(row.name_label)):
        machine = Machine(lab, host.name_label, host.address, lab.config.port, host)
        for name, value in machines.get(host.uuid, {}).items():
            setattr(machine, name, value)
        lab.machines[host.ref] = machine
    lab.coordinator = lab.machines[lab.db.by_uuid("host", state.fact("coordinator")).ref]
    for console in lab.db.all("console"):
        if not lab.db.get("VM", console.VM).is_control_domain:
            lab.db.delete(console)
    for name in ALLOWED:
        for row in lab.db.all(name):
            lab.db.update(row, current_operations={})
    lab.storage.restore(state.fact("storage"), state.blocks())
    for uuid, guest in state.fact("sleeping").items():
        if (vm := _vm(lab, uuid)) is not None:
            lab.resume_suspended(vm, guest)
    for uuid, (where, guest) in state.domains().items():
        if (vm := _vm(lab, uuid)) is not None:
            lab.resume_domain(lab.machines[lab.db.by_uuid("host", where).ref], vm, guest)
    for machine in lab.machines.values():
        if machine.powered:
            lab.power.resync(machine)
    for name in ALLOWED:
        for row in lab.db.all(name):
            refresh(lab, row)


def _vm(lab: Lab, uuid: str) -> Row | None:
    ref = lab.db.tables["VM"].by_uuid.get(uuid)
    return lab.db.find("VM", ref) if ref is not None else None
