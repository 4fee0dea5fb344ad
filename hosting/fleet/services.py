"""Writing the fleet's ledger on a person's behalf. Each leaves an audit entry, in the same transaction."""

from django.db import transaction

from hosting import keyring
from hosting.alarms.services import record_audit
from hosting.errors import Conflict
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host


def cordon_host(host: Host, *, actor: str, address: str | None = None) -> Host:
    """No new instances onto it; those here stay. Raises Conflict where its state does not allow that."""
    return _move_host(host, HostState.CORDONED, "host.cordon", actor, address)


def uncordon_host(host: Host, *, actor: str, address: str | None = None) -> Host:
    """It takes instances again. Raises Conflict where its state does not allow that."""
    return _move_host(host, HostState.ACCEPTING, "host.uncordon", actor, address)


@transaction.atomic
def _move_host(host: Host, state: HostState, action: str, actor: str, address: str | None) -> Host:
    """By a person: never out of suspicion, which only an answer of the host or a fence ends."""
    was = Host.objects.present().filter(pk=host.pk).values_list("state", flat=True).first()
    if was == state:
        return Host.objects.get(pk=host.pk)
    as_seen = Host.objects.present().filter(pk=host.pk, state=was)
    if was == HostState.SUSPECT or not as_seen.move_to(state):
        raise Conflict(f"The host is {was or 'gone'}.", code="host_state", host=host.pk)
    record_audit(
        actor=actor,
        action=action,
        subject=f"host:{host.pk}",
        facts={"from": was},
        address=address,
    )
    return Host.objects.get(pk=host.pk)


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
