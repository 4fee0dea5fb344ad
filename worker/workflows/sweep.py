"""What is left over in a pool goes: VMs and disks of instances that are over, clones that nobody finished,
networks that tenants have nothing on.

Who is an orphan is judged before (worker/reconcile/orphans); none of it can come to be needed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from hosting.fleet.models import Pool
from worker.hypervisor.port import Busy, Hypervisor, Refused
from worker.workflow import Done, Facts, Next, Outcome, Workflow

sweep = Workflow[Pool](
    "pool.sweep", subject="pool", first="remove_vms", deadline=timedelta(hours=1)
)


@sweep.remote
def remove_vms(pool: Pool, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """First, since a VM holds its disks."""
    _remove(facts["vms"], hypervisor.destroy_vm)
    return Next(remove_disks)


@sweep.remote
def remove_disks(pool: Pool, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    _remove(facts["vdis"], hypervisor.destroy_vdi)
    return Next(remove_networks)


@sweep.remote
def remove_networks(pool: Pool, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    _remove(facts.get("networks", []), hypervisor.destroy_network)
    return Done()


def _remove(uuids: Iterable[str], destroy: Callable[[UUID], None]) -> None:
    """All of them; what one that will not go says is raised when the others are gone."""
    held: Busy | Refused | None = None
    for uuid in uuids:
        try:
            destroy(UUID(uuid))
        except (Busy, Refused) as error:
            held = error
    if held is not None:
        raise held
