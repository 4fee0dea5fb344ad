"""What a tenant sees of its containers, and that it sees no other's."""

from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.compute import selectors
from hosting.compute.choices import DesiredState, Status
from hosting.compute.models import Container
from hosting.compute.selectors import (
    containers_of,
    count_by_status,
    find_container,
    in_status,
    instances_on,
    observe,
    tenants_of_instances,
)
from hosting.compute.services import create_container, delete_container
from hosting.compute.tests.makers import make_container, make_instance
from hosting.errors import NotFound
from hosting.fleet.models import VirtualMachine
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Tenant
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


def seen(container: Container) -> Status:
    """As one container, and as a list narrowed by the database says it: never two answers."""
    status = observe(find_container(tenant=container.tenant, uuid=container.pk)).status
    assert container in in_status(containers_of(container.tenant), status)
    return status


def test_another_tenants_container_is_not_there(tenant: Tenant) -> None:
    theirs = make_container(make_tenant())
    mine = make_container(tenant)
    assert list(containers_of(tenant)) == [mine]
    with pytest.raises(NotFound):
        find_container(tenant=tenant, uuid=theirs.pk)
    assert set(selectors.containers()) == {mine, theirs}


def test_a_list_costs_the_same_however_long(tenant: Tenant, django_assert_num_queries: Any) -> None:
    host = make_host()
    for _ in range(3):
        make_instance(tenant, host=host)
    with django_assert_num_queries(3):
        assert [observe(one).status for one in containers_of(tenant)] == [Status.UNKNOWN] * 3


def test_status_follows_the_mirror(tenant: Tenant) -> None:
    instance = make_instance(tenant, host=make_host())
    container = instance.container
    assert instance.pool is not None
    vm = make_vm(instance.pool, instance_uuid=instance.pk)
    assert seen(container) == Status.RUNNING
    VirtualMachine.objects.filter(pk=vm.pk).update(power_state="Halted")
    assert seen(container) == Status.EXITED
    Container.objects.filter(pk=container.pk).wish(desired_state=DesiredState.STOPPED)
    assert seen(container) == Status.STOPPED
    vm.delete()
    assert seen(container) == Status.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("instance.provision", Status.CREATING),
        ("instance.start", Status.STARTING),
        ("instance.stop", Status.STOPPING),
        ("instance.restart", Status.RESTARTING),
        ("instance.resize", Status.RESIZING),
        ("instance.migrate", Status.MOVING),
    ],
)
def test_status_says_what_is_under_way(tenant: Tenant, kind: str, status: Status) -> None:
    instance = make_instance(tenant)
    operation = Operation.objects.create(kind=kind, instance=instance, requested_by="t")
    assert seen(instance.container) == status
    assert observe(instance.container).status == status  # not through a selector
    Operation.objects.filter(pk=operation.pk).update(state=State.FAILED, ended_at=Now())
    assert seen(instance.container) == Status.FAILED


def test_what_is_to_be_deleted_says_so(tenant: Tenant) -> None:
    container = make_container(tenant)
    delete_container(container=container, requested_by="t")
    assert seen(container) == Status.DELETING


def test_what_is_gone_is_not_listed(tenant: Tenant) -> None:
    container = make_container(tenant)
    Container.objects.filter(pk=container.pk).delete_at_last()
    assert not containers_of(tenant)


def test_a_host_shows_what_holds_its_memory(tenant: Tenant) -> None:
    host = make_host()
    instance = make_instance(tenant, host=host)
    make_instance(tenant)
    assert list(instances_on(host)) == [instance]


def test_creating_shows_at_once(tenant: Tenant) -> None:
    image = make_container(tenant).version.image
    container, _ = create_container(tenant=tenant, name="web", image=image, requested_by="t")
    assert seen(container) == Status.CREATING


def test_an_operation_that_tenants_have_no_word_for_is_unknown_everywhere(tenant: Tenant) -> None:
    instance = make_instance(tenant)
    Operation.objects.create(kind="instance.novel", instance=instance, requested_by="t")
    assert seen(instance.container) == Status.UNKNOWN


def test_statuses_are_counted_by_one_query(tenant: Tenant, django_assert_num_queries: Any) -> None:
    host = make_host()
    for power_state in ("Running", "Running", "Halted"):
        instance = make_instance(tenant, host=host)
        make_vm(host.pool, instance_uuid=instance.pk, power_state=power_state)
    make_container(make_tenant())
    with django_assert_num_queries(1):
        assert count_by_status(containers_of(tenant)) == {Status.RUNNING: 2, Status.EXITED: 1}


def test_whose_instances_are_is_one_question(
    tenant: Tenant, django_assert_num_queries: Any
) -> None:
    mine, too = make_instance(tenant), make_instance(tenant)
    theirs = make_instance()
    with django_assert_num_queries(1):
        assert tenants_of_instances([mine.pk, too.pk]) == {tenant.pk}
    assert theirs.container.tenant_id in tenants_of_instances([mine.pk, theirs.pk])
    with django_assert_num_queries(0):
        assert tenants_of_instances([]) == set()
