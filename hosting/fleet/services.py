"""Writing the fleet's ledger on a person's behalf. Each leaves an audit entry, in the same transaction."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from hosting import keyring
from hosting.alarms.models import Alarm
from hosting.alarms.services import record_audit
from hosting.errors import Conflict, InvalidRequest
from hosting.fleet.choices import DIRECT_BOOTS, BootMode, HostState
from hosting.fleet.models import Host, Pool
from hosting.operations.models import Operation
from hosting.operations.selectors import active_operation_about
from hosting.operations.services import cancel, request, supersede, wake

EVACUATE, RETURN, RECOVER = "host.evacuate", "host.return", "host.recover"

_DRAINABLE = (HostState.ACCEPTING, HostState.CORDONED)


def cordon_host(host: Host, *, actor: str, address: str | None = None) -> Host:
    """No new instances onto it; those here stay. Raises Conflict where its state does not allow that."""
    return _move_host(
        host, HostState.ACCEPTING, HostState.CORDONED, "host.cordon", actor=actor, address=address
    )


def uncordon_host(host: Host, *, actor: str, address: str | None = None) -> Host:
    """It takes instances again. Raises Conflict where its state does not allow that."""
    return _move_host(
        host, HostState.CORDONED, HostState.ACCEPTING, "host.uncordon", actor=actor, address=address
    )


def declare_host_repaired(host: Host, *, actor: str, address: str | None = None) -> Host:
    """A dead host is on its feet again, and waits in maintenance until it is returned to service.

    Raises Conflict: "host_state"; "host_silent" while its pool does not hear of it.
    """
    if Host.objects.present().filter(pk=host.pk, state=HostState.DEAD, live=False).exists():
        raise Conflict(
            "Its pool does not hear of it yet: start it, and look at its network.",
            code="host_silent",
            host=host.pk,
        )
    return _move_host(
        host, HostState.DEAD, HostState.MAINTENANCE, "host.repaired", actor=actor, address=address
    )


_KERNELS_LIE_IN = ("/boot/guest/", "/var/lib/xcp/guest/")


@transaction.atomic
def set_boot(
    pool: Pool, mode: BootMode, *, kernel: str = "", ramdisk: str = "", args: str = "", actor: str
) -> None:
    """How VMs that are made from now on boot. Raises InvalidRequest.

    Kernels and ramdisks lie where xapi allows it, on every host (xapi_xenops.ml,
    allowed_dom0_directories_for_boot_files).
    """
    direct = mode in DIRECT_BOOTS
    if direct and not kernel:
        raise InvalidRequest(f"kernel: {mode.value} boots one that the hosts have: say which.")
    if not direct and (kernel or ramdisk or args):
        raise InvalidRequest(f"kernel, ramdisk, args: {mode.value} boots what is on the disk.")
    for file in filter(None, (kernel, ramdisk)):
        if not file.startswith(_KERNELS_LIE_IN) or ".." in file.split("/"):
            places = " or ".join(_KERNELS_LIE_IN)
            raise InvalidRequest(f"{file}: xapi boots files in {places} only.")
    boot = {
        "boot_mode": mode,
        "boot_kernel": kernel,
        "boot_ramdisk": ramdisk,
        "boot_args": args,
    }
    Pool.objects.filter(pk=pool.pk).update(**boot)
    record_audit(actor=actor, action="pool.set_boot", subject=f"pool:{pool.pk}", facts=boot)


_TAGS = range(1, 4095)


@transaction.atomic
def set_network(pool: Pool, device: str, *, first: int, last: int, actor: str) -> None:
    """Which interface of the hosts carries tenants' VLANs, and which tags may be given out there.

    Holds for networks that come to be in the pool from now on; "": instances that are made from now on get
    none. The tags, both counted, must be nobody else's on that interface. Raises InvalidRequest.
    """
    if first not in _TAGS or last not in _TAGS or last < first:
        raise InvalidRequest("vlans: from 1 to 4094, the lower first.")
    network = {"network_device": device, "vlan_first": first, "vlan_last": last}
    Pool.objects.filter(pk=pool.pk).update(**network)
    record_audit(actor=actor, action="pool.set_network", subject=f"pool:{pool.pk}", facts=network)


@transaction.atomic
def _move_host(
    host: Host, before: HostState, after: HostState, action: str, *, actor: str, address: str | None
) -> Host:
    """By a person, from one state to another: the other ways are those of workflows."""
    was = _held_state_of(host)
    if was == after:
        return Host.objects.get(pk=host.pk)
    if was != before or not Host.objects.filter(pk=host.pk).move_to(after):
        raise _wrong_state(host, was)
    _write_down(host, action, {"from": before}, actor=actor, address=address)
    return Host.objects.get(pk=host.pk)


@transaction.atomic
def drain_host(host: Host, *, actor: str, address: str | None = None) -> Operation:
    """Everything moves off it, alive, and then it is in maintenance. Asked twice is asked once.

    Raises Conflict: "host_state"; "operation_in_progress" while something else is being done with it,
    or while an earlier draining is being called off.
    """
    was = _held_state_of(host)
    if was == HostState.DRAINING:
        asked = active_operation_about(host)
        if asked is not None and asked.kind == EVACUATE and asked.cancel_requested_at is None:
            return asked
    elif was not in _DRAINABLE or not Host.objects.filter(pk=host.pk).move_to(HostState.DRAINING):
        raise _wrong_state(host, was)
    _write_down(host, "host.drain", {"from": was}, actor=actor, address=address)
    return request(EVACUATE, host, requested_by=actor)


@transaction.atomic
def cancel_drain(host: Host, *, actor: str, address: str | None = None) -> Operation:
    """What has moved stays where it is, and the host takes instances again.

    Raises Conflict ("host_state") when it is not being drained.
    """
    was = _held_state_of(host)
    draining = active_operation_about(host)
    if draining is None or draining.kind != EVACUATE:
        raise _wrong_state(host, was)
    if cancel(draining, requested_by=actor):
        _write_down(host, "host.cancel_drain", {}, actor=actor, address=address)
    return Operation.objects.get(pk=draining.pk)


@transaction.atomic
def return_host(host: Host, *, actor: str, address: str | None = None) -> Operation:
    """Out of maintenance: XAPI starts VMs on it again, and then so do we. Asked twice is asked once.

    A recovery that only waits for room for what ran here ends: this is room. Raises Conflict:
    "host_state"; "operation_in_progress".
    """
    was = _held_state_of(host)
    active = active_operation_about(host)
    if active is not None and active.kind == RETURN and active.cancel_requested_at is None:
        return active
    if was != HostState.MAINTENANCE:
        raise _wrong_state(host, was)
    if active is None or active.superseded_by_id is None:
        _write_down(host, "host.return", {}, actor=actor, address=address)
    if active is not None and active.kind == RECOVER:
        return supersede(active, RETURN, requested_by=actor)
    return request(RETURN, host, requested_by=actor)


@transaction.atomic
def confirm_host_is_off(
    host: Host, typed_name: str, *, actor: str, address: str | None = None
) -> Operation:
    """A person vouches that the machine has no power, where no fence can prove it; the recovery goes on.

    It holds for the recovery that is under way, which is what this answers with. If the machine runs
    after all, its VMs will run twice and destroy their disks: hence the name, typed.
    Raises Conflict ("nothing_to_confirm") unless a fence was tried and failed; InvalidRequest
    ("name_differs").
    """
    was = _held_state_of(host)
    recovery = active_operation_about(host)
    unfenced = Alarm.objects.filter(closed_at=None, tag=f"host-not-fenced:{host.pk}").exists()
    if recovery is None or recovery.kind != RECOVER or not unfenced:
        raise Conflict(
            "Nobody need vouch for this host: no fence of it has failed.",
            code="nothing_to_confirm",
            host=host.pk,
        )
    if typed_name.strip() != host.name:
        raise InvalidRequest("That is not the name of this host.", code="name_differs")
    if not Host.objects.filter(pk=host.pk).confirm_off(actor):
        raise _wrong_state(host, was)
    _write_down(
        host, "host.confirm_off", {"recovery": str(recovery.pk)}, actor=actor, address=address
    )
    wake(recovery)
    return recovery


def _held_state_of(host: Host) -> str | None:
    """As it is until the transaction ends; None: its pool no longer lists it."""
    held = Host.objects.locked(host.pk)
    return None if held is None else held.state


def _wrong_state(host: Host, state: str | None) -> Conflict:
    return Conflict(f"The host is {state or 'gone'}.", code="host_state", host=host.pk)


def _write_down(
    host: Host, action: str, facts: Mapping[str, Any], *, actor: str, address: str | None
) -> None:
    record_audit(
        actor=actor, action=action, subject=f"host:{host.pk}", facts=facts, address=address
    )


@transaction.atomic
def store_bmc(
    host: Host, *, url: str, username: str, password: str, certificate: str, actor: str
) -> None:
    """How to switch the host's power: `url` is one machine's own. Raises Conflict ("bmc_taken")."""
    other = Host.objects.present().filter(bmc_url=url).exclude(pk=host.pk).first()
    if other is not None:
        raise Conflict(f"That controller is {other}'s already.", code="bmc_taken", host=other.pk)
    Host.objects.filter(pk=host.pk).update(
        bmc_url=url,
        bmc_username=username,
        sealed_bmc_password=keyring.seal(password),
        bmc_certificate=certificate,
    )
    record_audit(actor=actor, action="host.set_bmc", subject=f"host:{host.pk}", facts={"url": url})
