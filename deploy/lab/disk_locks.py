"""Opening disks on machines, and the keys in `VDI.sm_config` that say which host has one open.

Those keys are all that protects a disk, and a dead host leaves its own behind (XAPI.md 6.3 step 6;
sm blktap2.py, resetvdis.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.attachments import Mode
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.storage import unavailable

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

LOCK_RETRIES = 30
"""Seconds, one try each, that an attach waits for a disk that is paused."""


def lock_key(machine: Machine) -> str:
    return f"host_{machine.host.ref}"


async def attach(lab: Lab, vdi: Row, machine: Machine, mode: Mode, user: str) -> None:
    """Open the disk on the machine for `user` (see `Attachments`), and say so in its sm_config.

    Raises SR_BACKEND_FAILURE_46 when another host has it (or had it when it died), or when it
    stays paused; CANNOT_CONTACT_HOST when the machine dies meanwhile: its keys then stay.
    """
    life = machine.life
    for _ in range(LOCK_RETRIES):
        async with lab.storage.lock(vdi.SR):
            if not machine.powered or machine.life != life:
                raise XapiError("CANNOT_CONTACT_HOST", machine.host.ref)
            if await _open(lab, vdi, machine, mode, user):
                return
        await lab.clock.sleep(1.0)
    raise unavailable(f"VDI {vdi.uuid} locked")


async def _open(lab: Lab, vdi: Row, machine: Machine, mode: Mode, user: str) -> bool:
    """Try once; False when the disk is paused."""
    sr = lab.db.find("SR", vdi.SR)
    if sr is not None:
        lab.storage.check_told_to_fail(sr, "vdi_attach")
    if lab.storage.attachments.is_open(machine, vdi.uuid):
        lab.storage.attachments.opened(machine, vdi, mode, user)
        if mode == "RW":
            lab.db.update(vdi, sm_config={**vdi.sm_config, lock_key(machine): "RW"})
        return True
    if not vdi.sharable:
        _clear_foreign_locks(lab, vdi, machine, mode)
    if "paused" in vdi.sm_config or "relinking" in vdi.sm_config:
        return False
    if "activating" in vdi.sm_config:
        failure = ["MAP_DUPLICATE_KEY", "VDI", "sm_config", vdi.ref, "activating"]
        raise unavailable(str(failure))
    await _activate(lab, vdi, machine, mode)
    lab.storage.attachments.opened(machine, vdi, mode, user)
    return True


async def _activate(lab: Lab, vdi: Row, machine: Machine, mode: Mode) -> None:
    life = machine.life
    keys = {**vdi.sm_config, lock_key(machine): mode}
    lab.db.update(vdi, sm_config={**keys, "activating": "True"})
    await lab.clock.sleep(lab.storage.times.attach)
    if machine.life != life:
        raise XapiError("CANNOT_CONTACT_HOST", machine.host.ref)
    _remove_keys(lab, vdi, "activating")


def _clear_foreign_locks(lab: Lab, vdi: Row, machine: Machine, mode: Mode) -> None:
    """Look at other hosts' keys; those of hosts that have the disk closed (or are unknown) go."""
    for key, held in list(vdi.sm_config.items()):
        if not key.startswith("host_") or key == lock_key(machine):
            continue
        if held != "RW" and mode != "RW":
            continue
        other = lab.machines.get(key.removeprefix("host_"))
        if other is not None and lab.db.find("host", other.host.ref) is not None:
            reached = other.answers_coordinator or other.is_coordinator
            if not reached or lab.storage.attachments.is_open(other, vdi.uuid):
                raise unavailable(f"VDI {vdi.uuid} not detached cleanly")
        _remove_keys(lab, vdi, key)


def _remove_keys(lab: Lab, vdi: Row, *keys: str) -> None:
    lab.db.update(vdi, sm_config={k: v for k, v in vdi.sm_config.items() if k not in keys})


def detach(lab: Lab, vdi: Row, machine: Machine, user: str) -> None:
    """Close the disk on the machine; its last user takes the key away.

    What the machine has not open it does not close: a key that a power cut left stays.
    """
    if not lab.storage.attachments.is_open(machine, vdi.uuid):
        return
    lab.storage.attachments.closed(machine, vdi.uuid, user)
    if not lab.storage.attachments.is_open(machine, vdi.uuid):
        _remove_keys(lab, vdi, lock_key(machine))


def clear_own_locks(lab: Lab, machine: Machine) -> None:
    """What a host does when it boots: take away its keys of disks that it has not open."""
    for vdi in _disks_of(lab, machine.host):
        stale = not lab.storage.attachments.is_open(machine, vdi.uuid)
        if stale and lock_key(machine) in vdi.sm_config:
            _remove_keys(lab, vdi, lock_key(machine))


def reset_locks(lab: Lab, host: Row, sr: Row | None = None, *, master: bool = False) -> None:
    """Take away the keys that the host left in disks: of all its SRs, or of one.

    host.declare_dead and plugging a PBD do it. `master` also clears `paused`; a leaked
    `activating` is never cleared (sm resetvdis.py).
    """
    keys = (f"host_{host.ref}", *(("paused",) if master else ()))
    disks = lab.db.rows("VDI", sr.VDIs) if sr is not None else _disks_of(lab, host)
    for vdi in disks:
        if not vdi.sm_config.keys().isdisjoint(keys):
            _remove_keys(lab, vdi, *keys)


def _disks_of(lab: Lab, host: Row) -> list[Row]:
    """Every disk on storage that the host is connected to."""
    srs = lab.db.rows("SR", [pbd.SR for pbd in lab.db.rows("PBD", host.PBDs)])
    return [vdi for sr in srs for vdi in lab.db.rows("VDI", sr.VDIs)]
