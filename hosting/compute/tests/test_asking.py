"""What tenants may ask of containers, and what that takes of their quota."""

from typing import Any

import pytest

from hosting.catalog.tests.makers import make_image
from hosting.compute.choices import DesiredState
from hosting.compute.models import Container, Instance
from hosting.compute.services import (
    MIB,
    Sizes,
    create_container,
    delete_container,
    forget_resize,
    release_container,
    resize_container,
    restart_container,
    settle_sizes,
    start_container,
    stop_container,
)
from hosting.compute.tests.makers import make_container, make_instance
from hosting.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from hosting.fleet.tests.makers import make_host
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Quota, Tenant
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db

SMALL = Sizes(vcpus=1, memory_bytes=256 * MIB, disk_bytes=512 * MIB)


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


def ask(tenant: Tenant, name: str = "web", **more: Any) -> tuple[Container, Operation]:
    image = more.pop("image", None) or make_image(tenant)
    return create_container(
        tenant=tenant, name=name, image=image, requested_by="user:alice", sizes=SMALL, **more
    )


def used(tenant: Tenant) -> tuple[int, int, int, int]:
    quota = Quota.objects.get(tenant=tenant)
    return (
        quota.containers_used,
        quota.vcpus_used,
        quota.memory_bytes_used // MIB,
        quota.disk_bytes_used // MIB,
    )


def only_instance(container: Container) -> Instance:
    return container.instances.get()


# create -------------------------------------------------------------------------------------------------


def test_a_container_is_a_wish_an_instance_and_an_operation(tenant: Tenant) -> None:
    container, operation = ask(tenant, command=["/bin/sh"], env={"A": "b"})
    assert container.desired_state == DesiredState.RUNNING
    assert (operation.kind, operation.subject) == (
        "instance.provision",
        only_instance(container),
    )
    assert used(tenant) == (1, 1, 256, 512)


def test_a_key_used_again_answers_with_the_same_container(tenant: Tenant) -> None:
    image = make_image(tenant)
    first = ask(tenant, image=image, idempotency_key="k")
    assert ask(tenant, image=image, idempotency_key="k") == first
    assert used(tenant) == (1, 1, 256, 512)


def test_a_key_used_for_something_else_is_refused(tenant: Tenant) -> None:
    image = make_image()
    ask(tenant, image=image, idempotency_key="k")
    for other, name in ((tenant, "other"), (make_tenant(), "web")):
        with pytest.raises(Conflict) as refused:
            ask(other, name, image=image, idempotency_key="k")
        assert refused.value.code == "idempotency_key_reused"


def test_a_name_that_is_taken_takes_no_quota(tenant: Tenant) -> None:
    ask(tenant)
    with pytest.raises(Conflict) as refused:
        ask(tenant)
    assert refused.value.code == "name_taken"
    assert used(tenant) == (1, 1, 256, 512)


def test_what_exceeds_the_quota_leaves_nothing() -> None:
    tenant = make_tenant(memory_bytes=255 * MIB)
    with pytest.raises(QuotaExceeded):
        ask(tenant)
    assert not Container.objects.exists()
    assert not Operation.objects.exists()
    assert used(tenant) == (0, 0, 0, 0)


def test_an_image_of_another_tenant_is_not_there(tenant: Tenant) -> None:
    with pytest.raises(NotFound):
        ask(tenant, image=make_image(make_tenant()))


def test_an_image_that_is_not_imported_cannot_be_run(tenant: Tenant) -> None:
    with pytest.raises(Conflict) as refused:
        ask(tenant, image=make_image(tenant, imported=False))
    assert refused.value.code == "image_not_ready"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Web"},
        {"command": ["a\0b"]},
        {"env": {"not a name": "x"}},
        {"env": {"": "x"}},
        {"env": {"LONG": "x" * 300_000}},
    ],
)
def test_what_makes_no_sense_is_refused(tenant: Tenant, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ask(tenant, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vcpus": 0},
        {"vcpus": 33},
        {"memory_bytes": 63 * MIB},
        {"memory_bytes": 256 * MIB + 1},
        {"disk_bytes": 2**42},
    ],
)
def test_sizes_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        Sizes(**wrong).check()


# start, stop, restart -----------------------------------------------------------------------------------


def test_stop_and_start_change_the_wish(tenant: Tenant) -> None:
    instance = make_instance(tenant, host=make_host())
    container = instance.container
    assert stop_container(container=container, requested_by="t").kind == "instance.stop"
    container.refresh_from_db()
    assert (container.desired_state, container.generation) == (DesiredState.STOPPED, 2)
    Operation.objects.all().delete()
    assert start_container(container=container, requested_by="t").kind == "instance.start"
    container.refresh_from_db()
    assert (container.desired_state, container.generation) == (DesiredState.RUNNING, 3)


def test_what_never_ran_is_provisioned_again(tenant: Tenant) -> None:
    container = make_container(tenant)
    assert start_container(container=container, requested_by="t").kind == "instance.provision"


def test_a_refused_wish_is_not_written_down(tenant: Tenant) -> None:
    container, _ = ask(tenant)
    with pytest.raises(Conflict):
        stop_container(container=container, requested_by="t")
    container.refresh_from_db()
    assert container.desired_state == DesiredState.RUNNING


def test_a_restart_is_for_what_has_run(tenant: Tenant) -> None:
    with pytest.raises(Conflict) as refused:
        restart_container(container=make_container(tenant), requested_by="t")
    assert refused.value.code == "never_started"
    running = make_instance(tenant, host=make_host()).container
    assert restart_container(container=running, requested_by="t").kind == "instance.restart"


# delete -------------------------------------------------------------------------------------------------


def test_a_deletion_supersedes_what_is_under_way(tenant: Tenant) -> None:
    container, creating = ask(tenant)
    deleting = delete_container(container=container, requested_by="t")
    assert (deleting.kind, deleting.state) == ("instance.teardown", State.QUEUED)
    creating.refresh_from_db()
    assert creating.superseded_by == deleting
    assert delete_container(container=container, requested_by="t") == deleting


def test_what_is_to_be_deleted_can_be_wished_nothing_else(tenant: Tenant) -> None:
    container = make_container(tenant)
    delete_container(container=container, requested_by="t")
    with pytest.raises(NotFound):
        start_container(container=container, requested_by="t")


def test_its_end_gives_everything_back_once(tenant: Tenant) -> None:
    host = make_host()
    instance = make_instance(tenant, host=host)
    for _ in range(2):
        release_container(instance)
    host.refresh_from_db()
    assert (host.memory_reserved_bytes, used(tenant)) == (0, (0, 0, 0, 0))
    with pytest.raises(NotFound):
        delete_container(container=instance.container, requested_by="t")
    make_container(tenant, name=instance.container.name)


# resize -------------------------------------------------------------------------------------------------


def resized(tenant: Tenant, **to: Any) -> Instance:
    instance = make_instance(tenant, host=make_host())
    resize_container(container=instance.container, requested_by="t", **to)
    return instance


def test_growth_is_taken_when_wished(tenant: Tenant) -> None:
    instance = resized(tenant, vcpus=3, memory_bytes=512 * MIB)
    assert used(tenant) == (1, 3, 512, 1024)
    settle_sizes(instance)
    assert used(tenant) == (1, 3, 512, 1024)
    instance.refresh_from_db()
    assert (instance.vcpus, instance.memory_bytes) == (3, 512 * MIB)


def test_shrinking_is_given_back_when_done(tenant: Tenant) -> None:
    instance = resized(tenant, memory_bytes=64 * MIB)
    assert used(tenant) == (1, 1, 256, 1024)
    settle_sizes(instance)
    assert used(tenant) == (1, 1, 64, 1024)


def test_a_resize_that_fails_takes_nothing(tenant: Tenant) -> None:
    instance = resized(tenant, vcpus=2, memory_bytes=64 * MIB)
    forget_resize(instance)
    assert used(tenant) == (1, 1, 256, 1024)
    instance.container.refresh_from_db()
    assert instance.container.memory_bytes == 256 * MIB


def test_a_resize_beyond_the_quota_changes_no_wish() -> None:
    tenant = make_tenant(vcpus=2)
    with pytest.raises(QuotaExceeded):
        resized(tenant, vcpus=3)
    container = Container.objects.get()
    assert (container.vcpus, container.generation) == (1, 1)


def test_a_resize_is_for_what_has_run(tenant: Tenant) -> None:
    with pytest.raises(Conflict):
        resize_container(container=make_container(tenant), vcpus=2, requested_by="t")
    with pytest.raises(InvalidRequest):
        resized(tenant, vcpus=99)
