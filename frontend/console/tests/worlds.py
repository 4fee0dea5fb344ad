"""A fleet in which everything that the console shows is there at once."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models.functions import Now

from hosting.alarms.choices import Severity
from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.compute.models import Instance
from hosting.compute.tests.makers import make_instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pbd, Pool, StorageRepository
from hosting.fleet.services import drain_host
from hosting.fleet.tests.makers import GIB, make_host, make_pool, make_vm
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from hosting.operations.services import request
from tenants.models import Tenant
from tenants.tests.makers import make_tenant


@dataclass
class Fleet:
    pool: Pool
    accepting: Host
    draining: Host
    silent: Host
    dead: Host
    maintenance: Host
    tenant: Tenant
    drain: Operation
    broken: Operation
    instances: list[Instance]

    @property
    def hosts(self) -> list[Host]:
        return [self.accepting, self.draining, self.silent, self.dead, self.maintenance]


def make_fleet() -> Fleet:
    pool = make_pool(name="frankfurt", version="8.3.0", last_seen_at=Now())
    size = {"memory_total_bytes": 64 * GIB, "memory_capacity_bytes": 60 * GIB}
    accepting, draining, silent, dead, maintenance = (
        make_host(
            pool,
            name=f"xen-{number}",
            address=f"192.0.2.{number}",
            memory_free_bytes=(70 - 12 * number) * GIB // 2,
            heartbeat_at=Now(),
            **size,
        )
        for number in range(1, 6)
    )
    Pool.objects.filter(pk=pool.pk).update(master=accepting)
    _give_storage(pool)
    tenant = make_tenant("acme", containers=20, vcpus=64, memory_bytes=64 * GIB, disk_bytes=2**40)
    make_tenant("zeta-laboratories")
    places = [accepting, draining, draining, draining, silent]
    instances = [make_instance(tenant, host=host) for host in places]
    for instance in instances:
        make_vm(
            pool,
            name=f"bulkhead-{instance.pk}",
            instance_uuid=instance.pk,
            resident_on=instance.host,
            memory_bytes=instance.memory_bytes,
            vcpus=1,
            guest_networks={"0/ip": "10.0.0.7"},
        )
    make_vm(pool, name="somebody-elses", resident_on=accepting, memory_bytes=4 * GIB)
    drain = _half_drained(draining, accepting, instances[1:4])
    broken = _broken(instances[0])
    _silence(silent)
    Host.objects.filter(pk=dead.pk).update(state=HostState.DEAD, live=True, enabled=False)
    Host.objects.filter(pk=maintenance.pk).update(state=HostState.MAINTENANCE, enabled=False)
    return Fleet(
        pool, accepting, draining, silent, dead, maintenance, tenant, drain, broken, instances
    )


def _give_storage(pool: Pool) -> None:
    shared = StorageRepository.objects.create(
        pool=pool,
        name="shared",
        type="nfs",
        shared=True,
        physical_size_bytes=2**42,
        physical_utilisation_bytes=2**41,
    )
    for host in Host.objects.filter(pool=pool):
        Pbd.objects.create(pool=pool, host=host, sr=shared, currently_attached=True)


def _half_drained(host: Host, target: Host, there: list[Instance]) -> Operation:
    """One has moved, one moves, one waits for room."""
    drain = drain_host(host, actor="user:olga", address="192.0.2.77")
    moved, moving, waiting = there
    Instance.objects.all().take_target(moved, target.pk)
    Instance.objects.all().settle_on(moved, target.pk)
    Instance.objects.all().take_target(moving, target.pk)
    _move(drain, moved, state=State.SUCCEEDED, ended_at=Now(), step="settle")
    _move(drain, moving, step="await_arrival", detail="It moves.")
    _move(drain, waiting, step="reserve", detail="No host for 264 MiB: xen-1 is full.")
    detail = "2 on it still. No host for 264 MiB: xen-1 is full."
    Operation.objects.filter(pk=drain.pk).update(
        step="empty",
        detail=detail,
        facts={"plan": {str(one.pk): str(target.pk) for one in there}},
        deadline_at=Now(),
    )
    for step in ("plan_moves", "empty"):
        drain.events.create(what="step", step=step)
    drain.events.create(what="waiting", step="empty", message=detail)
    return drain


def _move(drain: Operation, instance: Instance, **given: object) -> None:
    Operation.objects.create(
        kind="instance.migrate",
        instance=instance,
        parent=drain,
        requested_by="user:olga",
        **given,
    )


def _broken(instance: Instance) -> Operation:
    operation = request("instance.restart", instance, requested_by="user:alice")
    said = "A fault of ours (KeyError): the operators are told."
    Operation.objects.filter(pk=operation.pk).update(
        step="stop", trouble=Trouble.BUG, detail=said, attempt=4
    )
    operation.events.create(
        what="retrying",
        step="stop",
        attempt=4,
        message=said,
        private='Traceback (most recent call last):\n  File "stop.py", line 7\nKeyError: grace',
    )
    open_alarm(
        "step-broken:instance.restart.stop",
        severity=Severity.CRITICAL,
        title="A fault of ours in instance.restart, step stop",
        detail="KeyError: grace",
    )
    open_alarm("operation-late:x", title="instance.provision takes too long")
    Alarm.objects.close(["operation-late:x"])
    return operation


def _silence(host: Host) -> None:
    request("host.recover", host, requested_by="system:reconcile")
    Host.objects.filter(pk=host.pk).update(state=HostState.SUSPECT, live=False)
    open_alarm(
        f"host-not-fenced:{host.pk}",
        severity=Severity.CRITICAL,
        title=f"Host {host.name} is silent and cannot be fenced",
        detail="The machine's management controller did not answer (timeout). Its VMs may be "
        "running: they start elsewhere once it is proven off.",
    )
