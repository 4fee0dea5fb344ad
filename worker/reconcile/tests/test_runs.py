"""What reconcilers open, over real rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db.models.functions import Now
from django.utils import timezone

from hosting import labels
from hosting.alarms.models import Alarm
from hosting.catalog.models import GoldenDisk, Image
from hosting.compute.choices import DesiredState
from hosting.compute.models import Container, Instance
from hosting.compute.services import confirm_vm_is_gone
from hosting.compute.tests.makers import make_instance
from hosting.errors import Conflict
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool, Vdi, VirtualMachine
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations import bell
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Quota
from worker.reconcile.hosts.run import reconcile_hosts
from worker.reconcile.images.run import reconcile_images
from worker.reconcile.instances.run import reconcile_instances
from worker.reconcile.orphans.run import GRACE, reconcile_orphans
from worker.reconcile.quotas.run import reconcile_quotas
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _rung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def instance(db: None) -> Instance:
    """It runs, and the mirror says so."""
    made = make_instance(host=make_host())
    assert made.pool is not None
    make_vm(made.pool, instance_uuid=made.pk, power_state="Running")
    Pool.objects.update(last_seen_at=Now())
    return made


def fall() -> None:
    VirtualMachine.objects.update(power_state="Halted")
    Instance.objects.update(started_at=None)


def kinds() -> list[str]:
    return list(Operation.objects.order_by("created_at").values_list("kind", flat=True))


def test_what_is_as_wished_is_left_alone(instance: Instance) -> None:
    assert reconcile_instances() == 0


def test_what_has_fallen_is_started_once(instance: Instance) -> None:
    fall()
    assert (reconcile_instances(), reconcile_instances()) == (1, 0)
    assert kinds() == ["instance.start"]
    instance.refresh_from_db()
    assert instance.restarts == 1


def test_what_was_seen_before_the_last_operation_ended_is_no_news(instance: Instance) -> None:
    fall()
    Operation.objects.create(
        kind="instance.start",
        instance=instance,
        requested_by="t",
        state=State.SUCCEEDED,
        ended_at=Now(),
    )
    assert reconcile_instances() == 0  # in this transaction it is still the same moment


def test_of_a_pool_that_does_not_answer_nothing_is_known(instance: Instance) -> None:
    fall()
    Pool.objects.update(state="unreachable")
    assert reconcile_instances() == 0


def test_while_its_host_is_recovered_it_is_left_to_that(instance: Instance) -> None:
    fall()
    Operation.objects.create(kind="host.recover", host=instance.host, requested_by="t")
    assert reconcile_instances() == 0


def test_a_deletion_that_was_lost_is_begun_again(instance: Instance) -> None:
    Container.objects.update(desired_state=DesiredState.DELETED)
    assert reconcile_instances() == 1
    assert kinds() == ["instance.teardown"]


def test_a_guests_own_word_of_how_it_ended_counts(instance: Instance) -> None:
    fall()
    Container.objects.update(restart_policy="on-failure")
    VirtualMachine.objects.update(vm_data={"exit": "code 0"})
    reconcile_instances()
    assert kinds() == ["instance.stop"]


def test_a_vm_that_its_pool_has_lost_is_told_and_not_started_again(instance: Instance) -> None:
    VirtualMachine.objects.all().delete()
    assert reconcile_instances() == 0
    assert Alarm.objects.get(closed_at=None).tag == f"vm-lost:{instance.pk}"
    confirm_vm_is_gone(instance=instance, actor="user:operator")
    Instance.objects.update(started_at=None)
    assert reconcile_instances() == 1
    assert kinds() == ["instance.start"]
    assert not Alarm.objects.filter(closed_at=None)


def test_a_vm_that_is_seen_is_not_confirmed_to_be_gone(instance: Instance) -> None:
    with pytest.raises(Conflict):
        confirm_vm_is_gone(instance=instance, actor="user:operator")


def test_looking_costs_two_queries(instance: Instance, django_assert_num_queries: Any) -> None:
    for _ in range(3):
        made = make_instance(instance.container.tenant, host=instance.host)
        assert made.pool is not None
        make_vm(made.pool, instance_uuid=made.pk, power_state="Running")
    with django_assert_num_queries(2):
        assert reconcile_instances() == 0


def test_looking_reads_no_certificates(instance: Instance, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2) as asked:
        reconcile_instances()
    assert not [query for query in asked.captured_queries if "candidates" in query["sql"]]


def suspects(*uuids: UUID) -> Any:
    return lambda _pool: set(uuids)


def test_a_suspect_is_recovered(db: None) -> None:
    host = make_host()
    assert reconcile_hosts(suspects(host.pk)) == 1
    assert reconcile_hosts(suspects(host.pk)) == 0
    assert kinds() == ["host.recover"]


def test_a_host_that_dies_while_it_is_drained_is_recovered_at_once(db: None) -> None:
    host = make_host(state=HostState.DRAINING)
    draining = Operation.objects.create(kind="host.evacuate", host=host, requested_by="t")
    assert reconcile_hosts(suspects(host.pk)) == 1
    draining.refresh_from_db()
    assert draining.state == State.SUPERSEDED
    assert Operation.objects.active().get().kind == "host.recover"


def test_a_host_that_has_left_its_pool_is_nobodys_suspect(db: None) -> None:
    host = make_host()
    Host.objects.filter(pk=host.pk).update(gone_at=Now())
    assert reconcile_hosts(suspects(host.pk)) == 0


def test_a_pool_that_lacks_an_image_gets_just_that(db: None) -> None:
    world = World()
    GoldenDisk.objects.all().delete()
    assert reconcile_images() == 1
    operation = Operation.objects.get()
    assert (operation.kind, operation.facts) == ("image.import", {"digest": world.version.digest})


def test_an_import_that_failed_is_let_be_for_a_while(db: None) -> None:
    world = World()
    GoldenDisk.objects.all().delete()
    Operation.objects.create(
        kind="image.import",
        image=world.version.image,
        requested_by="t",
        state=State.FAILED,
        ended_at=Now(),
    )
    assert reconcile_images() == 0


def test_a_removed_image_loses_its_disks(db: None) -> None:
    world = World()
    assert reconcile_images() == 0
    Image.objects.filter(pk=world.version.image_id).remove()
    assert reconcile_images() == 1
    assert kinds() == ["image.remove"]


def test_a_wrong_sum_opens_an_alarm_and_a_right_one_closes_it(instance: Instance) -> None:
    assert reconcile_quotas() == []
    Quota.objects.filter(tenant=instance.container.tenant).update(vcpus_used=7)
    Host.objects.update(memory_reserved_bytes=1)
    wrong = {(one.column, one.kept) for one in reconcile_quotas()}
    assert wrong == {("vcpus", 7), ("memory_bytes", 1)}
    assert Alarm.objects.filter(closed_at=None).count() == 2
    Quota.objects.filter(tenant=instance.container.tenant).update(vcpus_used=1)
    Host.objects.update(memory_reserved_bytes=instance.reserved_bytes)
    assert reconcile_quotas() == []
    assert not Alarm.objects.filter(closed_at=None)


@pytest.mark.django_db(transaction=True)
def test_sums_are_taken_at_one_moment() -> None:
    make_instance(host=make_host())
    assert reconcile_quotas() == []


@pytest.fixture
def leftover(instance: Instance) -> Instance:
    """Its container is gone, its VM is still there."""
    cache.clear()
    Instance.objects.all().leave_host(instance)
    Instance.objects.update(ended_at=Now())
    return instance


def test_what_is_left_over_goes_after_a_while(leftover: Instance) -> None:
    now = timezone.now()
    assert reconcile_orphans(now) == 0
    assert reconcile_orphans(now + GRACE / 2) == 0
    assert reconcile_orphans(now + GRACE) == 1
    operation = Operation.objects.get()
    vm = VirtualMachine.objects.get()
    assert operation.kind == "pool.sweep"
    assert operation.facts == {"vms": [str(vm.pk)], "vdis": [], "networks": []}
    assert reconcile_orphans(now + 2 * GRACE) == 0


def test_the_wait_begins_anew_when_it_was_wanted_in_between(leftover: Instance) -> None:
    now = timezone.now()
    reconcile_orphans(now)
    VirtualMachine.objects.update(current_operations=["start_on"])
    reconcile_orphans(now + GRACE / 2)
    VirtualMachine.objects.update(current_operations=[])
    assert reconcile_orphans(now + GRACE) == 0


def test_a_clone_that_nobody_finished_is_left_over(db: None) -> None:
    cache.clear()
    world = World()
    Vdi.objects.create(
        pool=world.row,
        name="image",
        marker={labels.IMAGE: world.version.digest, labels.VDI: str(world.golden.uuid)},
    )
    now = timezone.now()
    assert [reconcile_orphans(at) for at in (now, now + GRACE)] == [0, 1]
    assert Operation.objects.get().facts["vdis"] == [str(Vdi.objects.get().pk)]


def test_of_strangers_a_person_is_told_and_nothing_else_happens(instance: Instance) -> None:
    cache.clear()
    make_vm(instance.pool or Pool.objects.get(), instance_uuid=UUID(int=99))
    now = timezone.now()
    assert [reconcile_orphans(at) for at in (now, now + GRACE)] == [0, 0]
    assert Alarm.objects.get(closed_at=None).tag.startswith("strangers-in-pool:")
    VirtualMachine.objects.filter(instance_uuid=UUID(int=99)).delete()
    reconcile_orphans(now)
    assert not Alarm.objects.filter(closed_at=None)


def test_looking_for_orphans_costs_the_same_however_many_there_are(
    leftover: Instance, django_assert_num_queries: Any
) -> None:
    assert leftover.pool is not None
    for _ in range(5):
        make_vm(leftover.pool, instance_uuid=leftover.pk)
    with django_assert_num_queries(7):
        reconcile_orphans()
