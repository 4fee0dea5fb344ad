"""A host that is silent is proven to have no power, given up, and what ran on it starts elsewhere.

Never two copies of one VM: without a proven fence, or a person's word for it, nothing is done about its VMs,
however long that takes. Who is a suspect at all is judged elsewhere (worker/liveness), before this begins.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog
from django.db.models import Q

from hosting import labels
from hosting.alarms.choices import Severity
from hosting.alarms.models import Alarm
from hosting.alarms.services import close_alarm, open_alarm
from hosting.catalog.models import GoldenDisk
from hosting.compute.choices import DesiredState
from hosting.compute.models import Instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool
from hosting.operations.models import Operation
from hosting.operations.selectors import active_operation_about
from hosting.operations.services import hand_over
from hosting.warm.models import Blank
from worker.fencing.hosts import fence_of
from worker.fencing.port import Fence, FencingError
from worker.hypervisor.port import Gone, Hypervisor, TaskHandle, Unreachable, VmRecord
from worker.workflow import Done, Facts, Next, Outcome, Spawn, Wait, Workflow
from worker.workflows.provision import provision
from worker.workflows.start import start
from worker.workflows.teardown import teardown

log = structlog.get_logger(__name__)

PROBE_TIMEOUT = timedelta(seconds=5)
LOOK_AGAIN = timedelta(seconds=10)
SOON = timedelta(seconds=1)

find_fence: Callable[[Host], Fence] = fence_of

recover_host = Workflow[Host](
    "host.recover", subject="host", first="suspect", deadline=timedelta(minutes=10)
)


@recover_host.ledger
def suspect(host: Host, facts: Facts) -> Outcome:
    """Nothing new goes there. While half of the pool is silent we suspect our own eyes, and wait."""
    doubts = Alarm.objects.filter(closed_at=None, tag=f"half-of-pool-silent:{host.pool_id}")
    if doubts.exists():
        return Wait(LOOK_AGAIN, "Half of the pool is silent: it is likelier that we are cut off.")
    was = HostState(Host.objects.values_list("state", flat=True).get(pk=host.pk))
    if Host.objects.filter(pk=host.pk).move_to(HostState.SUSPECT):
        return Next(confirm, was=was.value)
    if was == HostState.SUSPECT:
        return Next(confirm, was=HostState.ACCEPTING.value)
    return Next(fence)  # an earlier recovery was ended midway: what it had proven is proven again


@recover_host.remote
def confirm(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Ask it once more."""
    if hypervisor.host_answers(host.pk, PROBE_TIMEOUT):
        return Next(stand_down)
    return Next(fence)


@recover_host.ledger
def stand_down(host: Host, facts: Facts) -> Outcome:
    """It answers: it goes on as before."""
    Host.objects.filter(pk=host.pk).move_to(HostState(facts["was"]))
    close_alarm(_tag(host))
    return Done()


@recover_host.remote
def fence(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Cut its power, and go on only when it is read back to be off, or a person vouches that it is."""
    if _came_back(host, facts, hypervisor):
        return Next(stand_down)
    try:
        find_fence(host).power_off()
    except FencingError as error:
        if host.is_confirmed_off:
            return _vouched_for(host, hypervisor)
        if facts.get("told") != error.reason:
            return Next(tell, told=error.reason, why=str(error))
        return Wait(LOOK_AGAIN, str(error))
    return Next(take_over)


def _came_back(host: Host, facts: Facts, hypervisor: Hypervisor) -> bool:
    """Whether it answers after all, since the last time that its fence failed."""
    waited = "told" in facts and "was" in facts and not host.is_confirmed_off
    return waited and hypervisor.host_answers(host.pk, PROBE_TIMEOUT)


def _vouched_for(host: Host, hypervisor: Hypervisor) -> Outcome:
    """A person's word is taken unless the host itself says otherwise."""
    if hypervisor.host_answers(host.pk, PROBE_TIMEOUT):
        return Wait(LOOK_AGAIN, f"{host.confirmed_off_by} vouches that it is off, yet it answers.")
    return Next(take_over)


@recover_host.ledger
def tell(host: Host, facts: Facts) -> Outcome:
    """A person must see to it that the machine is off; until then its VMs are left alone."""
    open_alarm(
        _tag(host),
        severity=Severity.CRITICAL,
        title=f"Host {host} is silent and cannot be fenced",
        detail=f"{facts['why']} Its VMs may be running: they start elsewhere once it is proven off.",
    )
    return Next(fence)


@recover_host.ledger
def take_over(host: Host, facts: Facts) -> Outcome:
    """It is off. Whatever was being done with its instances is ours to finish now."""
    Host.objects.filter(pk=host.pk).move_to(HostState.FENCED)
    close_alarm(_tag(host))
    ours = active_operation_about(host)
    assert ours is not None
    held = Instance.objects.all().living().on(host)
    blanks = Blank.objects.filter(host=host)
    hand_over(Operation.objects.filter(Q(instance__in=held) | Q(blank__in=blanks)), ours)
    heir = _heir_of(host)
    return Next(
        declare_dead if heir is None else elect,
        held=[str(uuid) for uuid in held.values_list("pk", flat=True)],
        heir=heir,
        golden=[] if heir is None else _golden_disks_of(host),
    )


def _golden_disks_of(host: Host) -> list[dict[str, str]]:
    ready = GoldenDisk.objects.all().ready().filter(pool=host.pool_id)
    return [
        {
            "sr": str(disk.sr_uuid),
            "vdi": str(disk.vdi_uuid),
            "name": labels.image_name(disk.digest, disk.builder_version),
            "digest": disk.digest,
        }
        for disk in ready.order_by("pk")
    ]


def _heir_of(host: Host) -> UUID | None:
    """Who becomes master in its place; None if it was none, or there is nobody."""
    if not Pool.objects.filter(pk=host.pool_id, master=host).exists():
        return None
    doubtful = [HostState.SUSPECT, HostState.FENCED, HostState.DEAD]
    others = Host.objects.all().present().filter(pool=host.pool_id, live=True)
    fit = others.exclude(pk=host.pk).exclude(state__in=doubtful).order_by("pk")
    return fit.values_list("pk", flat=True).first()


# ------------------------------------------------------------------------ when it was the pool's master


@recover_host.remote
def elect(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Only here, where the old master is proven off, may there be another (XAPI.md 6.5)."""
    if not _has_other_master(host, hypervisor):
        hypervisor.emergency_transition_to_master(UUID(facts["heir"]))
    return Next(rally)


@recover_host.remote
def rally(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Unreachable until the new master is up: that is retried by itself."""
    hypervisor.recover_slaves()
    return Next(rescan)


@recover_host.remote
def rescan(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Its copy of the database may be minutes old: disks that are newer are on storage, and unknown."""
    for sr in sorted({disk["sr"] for disk in facts["golden"]}):
        hypervisor.scan_sr(UUID(sr))
    for disk in facts["golden"]:
        marker = {labels.IMAGE: disk["digest"]}
        try:
            hypervisor.adopt_vdi(UUID(disk["vdi"]), name=disk["name"], marker=marker)
        except Gone:
            log.warning("golden_disk_lost", vdi=disk["vdi"], digest=disk["digest"])
    return Next(declare_dead)


def _has_other_master(host: Host, hypervisor: Hypervisor) -> bool:
    try:
        return hypervisor.pool().master not in (None, host.pk)
    except Unreachable:
        return False


# ------------------------------------------------------------------------------------- giving it up


@recover_host.remote
def declare_dead(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Its VMs become Halted and it is disabled (XAPI datamodel host.declare_dead)."""
    record = hypervisor.host(host.pk)
    if "declare_dead" in record.current_operations:
        return Wait(SOON, "The pool gives it up.")
    if not record.enabled and not _residents(host, hypervisor):
        return Next(unlock)
    return Next(await_death, task=hypervisor.declare_dead(host.pk))


@recover_host.remote
def await_death(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    task = TaskHandle(facts["task"])
    try:
        record = hypervisor.poll(task)
    except Gone:
        return Next(declare_dead)  # which looks how far it is
    if not record.is_finished:
        return Wait(SOON, "The pool gives it up.")
    hypervisor.forget(task)
    if record.error is not None:
        raise record.error
    return Next(unlock)


def _residents(host: Host, hypervisor: Hypervisor) -> list[VmRecord]:
    """Its control domain is not one."""
    vms = (vm for vm in hypervisor.vms() if not vm.is_control_domain)
    return [vm for vm in vms if vm.resident_on == host.pk]


@recover_host.remote
def unlock(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Locks that its death left on disks would keep them from being used (XAPI.md 6.3)."""
    for vdi in hypervisor.vdis():
        if host.pk in vdi.locked_by:
            hypervisor.clear_locks(vdi.uuid, host.pk)
    return Next(look)


@recover_host.remote
def look(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Who got away to another host in time."""
    held = {labels.instance_name(UUID(uuid)) for uuid in facts["held"]}
    away = {
        vm.name: str(vm.resident_on)
        for vm in hypervisor.vms()
        if vm.name in held
        and vm.marker
        and vm.power_state == "Running"
        and vm.resident_on is not None
    }
    return Next(release, away=away)


# ----------------------------------------------------------------------------------- and what ran on it


@recover_host.ledger
def release(host: Host, facts: Facts) -> Outcome:
    """Its memory is nobody's any more; those that were moving are where they arrived. Its blanks are no more."""
    for instance in Instance.objects.all().living().on(host).filter(pk__in=facts["held"]):
        at = facts["away"].get(labels.instance_name(instance.pk))
        other = instance.target_id if instance.host_id == host.pk else instance.host_id
        if other is not None and at == str(other):
            Instance.objects.all().settle_on(instance, other)
        else:
            Instance.objects.all().leave_host(instance)
    Blank.objects.all().bury(host)
    Host.objects.filter(pk=host.pk).move_to(HostState.DEAD)
    return Next(restart)


@recover_host.ledger
def restart(host: Host, facts: Facts) -> Outcome:
    """All that should run and runs nowhere; the rest waits for room, and this with it."""
    down = Instance.objects.all().living().filter(pk__in=facts["held"], host=None)
    deleted = down.filter(container__desired_state=DesiredState.DELETED)
    running = down.filter(container__desired_state=DesiredState.RUNNING)
    for workflow, wanting in (
        (start, running.exclude(published_at=None)),
        (teardown, deleted),
        (provision, running.filter(published_at=None)),
    ):
        found = list(wanting)
        if found:
            return Spawn(workflow, found, LOOK_AGAIN, reason=f"{len(found)} to see to.")
    if Operation.objects.active().filter(instance__in=facts["held"]).exists():
        return Wait(LOOK_AGAIN, "They are being started.")
    return Done()


def _tag(host: Host) -> str:
    return f"host-not-fenced:{host.pk}"
