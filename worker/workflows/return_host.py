"""A host comes back from maintenance: XAPI starts VMs on it again, and then it takes instances.

Whether the machine is fit is for the person to judge who asks for this; that it answers is waited for. Called
off, it stays in maintenance.
"""

from __future__ import annotations

from datetime import timedelta

from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

PROBE_TIMEOUT = timedelta(seconds=5)
LOOK_AGAIN = timedelta(seconds=10)

return_host = Workflow[Host](
    "host.return",
    subject="host",
    first="check",
    undo="disable",
    deadline=timedelta(minutes=15),
)


@return_host.ledger
def check(host: Host, facts: Facts) -> Outcome:
    if not _is_in_maintenance(host):
        return Failed("host_not_in_maintenance", f"The host is {host.state}.")
    return Next(enable)


@return_host.remote
def enable(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """One that has just been given power may take a while to answer."""
    if not hypervisor.host_answers(host.pk, PROBE_TIMEOUT):
        return Wait(LOOK_AGAIN, "The host does not answer yet.")
    hypervisor.enable_host(host.pk)
    return Next(accept)


@return_host.ledger
def accept(host: Host, facts: Facts) -> Outcome:
    Host.objects.filter(pk=host.pk, state=HostState.MAINTENANCE).move_to(HostState.ACCEPTING)
    return Done()


# ------------------------------------------------------------------------------------------- the way back


@return_host.remote
def disable(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    hypervisor.disable_host(host.pk)
    return Next(stay)


@return_host.ledger
def stay(host: Host, facts: Facts) -> Outcome:
    """Its state was not changed."""
    return Failed()


# --------------------------------------------------------------------------------------------------------


def _is_in_maintenance(host: Host) -> bool:
    return Host.objects.filter(pk=host.pk, state=HostState.MAINTENANCE).exists()
