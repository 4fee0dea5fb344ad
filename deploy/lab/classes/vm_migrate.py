"""Moving running VMs between hosts of the pool (recorded: pool_migrate, event_vm_life).

Facts: FACTS 5; message_forwarding.ml and xapi_vm_migrate.ml of xen-api.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deploy.lab import domains
from deploy.lab.classes import vm_disks
from deploy.lab.classes.host_operations import given_to_host
from deploy.lab.classes.vm_lifecycle import check_operation
from deploy.lab.classes.vm_power import refresh_devices, tell
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import first_of, forward, passed_cancel_points, subtask
from deploy.lab.operations import operation
from deploy.lab.placement import check_can_boot
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.guest import Guest
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


@message("VM.pool_migrate")
async def pool_migrate(call: Call, vm: Row, host: str, options: dict[str, str]) -> None:
    target = call.db.get("host", host)
    strict = options.get("force") != "true"

    def check(lab: Lab, row: Row, op: str) -> None:
        check_operation(lab, row, op, strict=strict)

    def choose() -> Row:
        check_can_boot(call.lab, vm, target.ref)
        return target

    source = call.db.find("host", vm.resident_on)
    async with operation(call, vm, "pool_migrate", check):
        source = call.db.get("host", vm.resident_on)
        async with given_to_host(call, vm, choose, "vm_migrate"):
            machine = await forward(call, source.ref)
            check_network(call, target, options.get("network", NULL))
            await move(call, vm, machine, call.lab.machine(target.ref))
    refresh_devices(call, vm)
    tell(
        call,
        vm,
        "VM_MIGRATED",
        f"migrated from host '{source.name_label}' (uuid: {source.uuid}) "
        f"to host '{target.name_label}' (uuid: {target.uuid})",
    )


def check_network(call: Call, host: Row, network: str) -> None:
    """The network that the option `network` names has to reach the target host.

    Raises PIF_NOT_PRESENT [host, network], REQUIRED_PIF_IS_UNPLUGGED [pif], INTERFACE_HAS_NO_IP
    [pif].
    """
    if network == NULL:
        return
    pif = next((p for p in call.db.rows("PIF", host.PIFs) if p.network == network), None)
    if pif is None:
        raise XapiError("PIF_NOT_PRESENT", host.ref, network)
    if not pif.currently_attached:
        raise XapiError("REQUIRED_PIF_IS_UNPLUGGED", pif.ref)
    if not pif.IP:
        raise XapiError("INTERFACE_HAS_NO_IP", pif.ref)


async def move(
    call: Call,
    vm: Row,
    source: Machine,
    target: Machine,
    switch: Callable[[], None] = lambda: None,
) -> None:
    """Carry the domain over. When the target fails, the VM stays where it is.

    `switch` is called while no machine has the VM's disks open. Raises VM_HALTED [vm] when the
    domain is not there, or goes before it was handed over.
    """
    lab = call.lab
    with subtask(call, "network.attach_for_vm") as attaching:
        call.db.update(attaching, resident_on=target.host.ref)
        domains.attach_networks(lab, vm, target)
    async with source.xenopsd.turn(vm.uuid):
        guest: Guest | None = source.domains.get(vm.uuid)
        if guest is None:
            raise XapiError("VM_HALTED", vm.ref)
        life = target.life
        await _copy_memory(call, vm, source, target)
        passed_cancel_points(call, 10)
        with lab.backend.handing_over(vm, source, target):
            await _hand_over_disks(call, vm, source, target, life, switch)
        if source.domains.pop(vm.uuid) is not guest:
            # The source lost its power, and the guest with it.
            vm_disks.close_disks_on(lab, vm, target)
            raise XapiError("VM_HALTED", vm.ref)
        # Between these two lines nothing else happens: the VM never runs on two machines.
        target.domains[vm.uuid] = guest
        guest.on_end = target.guest_ended
        _settle(call, vm, target)
        if guest.ended is not None:
            # It ended on the way, when the source still had to answer for it.
            target.guest_ended(guest, guest.ended)


async def _hand_over_disks(
    call: Call,
    vm: Row,
    source: Machine,
    target: Machine,
    life: int,
    switch: Callable[[], None],
) -> None:
    """Close the disks here, open them there; when that fails they are opened here again.

    A VM that cannot have them back is shut down. `life` is the target's, of when the move began.
    """
    lab = call.lab
    vm_disks.close_disks_on(lab, vm, source)
    switch()
    try:
        await vm_disks.open_disks(lab, vm, target, booting=False)
        target.xenopsd.check_alive(life)
        if (guest := source.domains.get(vm.uuid)) is not None:
            await lab.backend.carry(guest, source, target)
    except XapiError:
        vm_disks.close_disks_on(lab, vm, target)
        guest = source.domains.get(vm.uuid)
        if guest is not None:
            await _give_back_disks(lab, vm, source, guest)
        raise


async def _give_back_disks(lab: Lab, vm: Row, source: Machine, guest: Guest) -> None:
    try:
        await vm_disks.open_disks(lab, vm, source, booting=False)
    except XapiError:
        if source.domains.get(vm.uuid) is guest:
            guest.kill()
            source.domains.pop(vm.uuid)
            domains.show_halted(lab, vm)


async def _copy_memory(call: Call, vm: Row, source: Machine, target: Machine) -> None:
    life = target.life
    half = call.lab.config.durations.migrate / 2
    _set_progress(call, 0.0)
    await first_of(source.xenopsd.work(half), _noticed(call))
    call.check_cancelled()
    _set_progress(call, 0.5)
    await source.xenopsd.work(half)
    if target.life != life or not target.answers_coordinator:
        raise XapiError(
            "VM_MIGRATE_FAILED",
            vm.ref,
            source.host.ref,
            target.host.ref,
            "The destination does not answer.",
        )
    source.xenopsd.check_alive(source.life)


async def _noticed(call: Call) -> None:
    await call.cancelled.wait()
    await call.lab.clock.sleep(call.lab.config.durations.cancel)


def _set_progress(call: Call, progress: float) -> None:
    if call.task_row is not None:
        call.db.update(call.task_row, progress=progress)


def _settle(call: Call, vm: Row, target: Machine) -> None:
    """The target tells the coordinator that the VM is its own now."""
    with subtask(call, "VM.pool_migrate_complete"):
        domains.arrive(call, vm, target)
        call.db.update(vm, domid=target.xenopsd.next_domid())
        metrics = call.db.find("VM_guest_metrics", vm.guest_metrics)
        if metrics is not None:
            call.db.update(metrics, last_updated=call.lab.clock.date())
        domains.make_consoles(call.lab, vm, target)
        domains.show_devices(call.lab, vm)
