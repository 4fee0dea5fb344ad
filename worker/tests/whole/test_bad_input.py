"""What cannot be done is said by a code that stays, and leaves nothing behind: neither rows nor disks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploy.lab.certificates import make_certificate
from deploy.lab.registry.access import Access
from hosting.catalog.models import GoldenDisk
from hosting.compute.models import Container
from hosting.compute.services import Sizes, create_container, delete_container
from hosting.errors import Conflict, QuotaExceeded
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from tenants.models import Quota
from worker.tests.whole.estate import MIB, Estate

pytestmark = pytest.mark.django_db


def assert_no_image(estate: Estate, operation: Operation, code: str) -> None:
    ended = estate.settle(operation)
    assert (ended.state, ended.error_code) == (State.FAILED, code)
    assert ended.error
    assert not GoldenDisk.objects.exists()
    assert estate.golden_disks() == 0


def test_an_image_that_its_registry_has_not(estate: Estate) -> None:
    _, operation = estate.image("web:nonesuch")
    assert_no_image(estate, operation, "image_unknown")


def test_a_pull_that_its_registry_refuses(estate: Estate) -> None:
    estate.registry.access = Access("basic", "alice", "secret")
    _, operation = estate.image()
    assert_no_image(estate, operation, "pull_refused")


def test_bytes_that_are_not_what_their_digest_says(estate: Estate) -> None:
    estate.registry.faults.add("/blobs/", "wrong_bytes")
    _, operation = estate.image()
    assert_no_image(estate, operation, "digest_mismatch")


def test_a_registry_that_is_not_allowed(estate: Estate, settings: Any) -> None:
    settings.IMAGE_ALLOWED_NETWORKS = []
    _, operation = estate.image()
    assert_no_image(estate, operation, "registry_not_allowed")


def test_an_upload_that_fails_midway_is_made_anew(estate: Estate) -> None:
    estate.lab.do(lambda lab: setattr(lab.faults, "failing_imports", 1))
    image = estate.imported()
    assert image.current is not None
    assert estate.golden_disks() == 1


def test_a_containers_own_upload_that_fails_is_made_anew_too(estate: Estate) -> None:
    image = estate.imported()
    estate.lab.do(lambda lab: setattr(lab.faults, "failing_imports", 2))
    estate.assert_runs_once(estate.running(image))


def test_uploads_that_always_fail_are_given_up(estate: Estate) -> None:
    estate.lab.do(lambda lab: setattr(lab.faults, "failing_imports", 99))
    _, operation = estate.image()
    assert_no_image(estate, operation, "import_failed")


def test_more_than_the_quota(estate: Estate) -> None:
    image = estate.imported()
    Quota.objects.update(vcpus_limit=1)
    with pytest.raises(QuotaExceeded) as refused:
        create_container(
            tenant=estate.tenant, name="big", image=image, requested_by="t", sizes=Sizes(vcpus=2)
        )
    assert refused.value.code == "quota_exceeded"
    assert not Container.objects.exists()
    assert Quota.objects.get(tenant=estate.tenant).containers_used == 0
    estate.assert_nothing_is_left()


def test_a_name_that_is_taken(estate: Estate) -> None:
    image = estate.imported()
    estate.container(image)
    with pytest.raises(Conflict) as refused:
        estate.container(image)
    assert refused.value.code == "name_taken"
    assert Quota.objects.get(tenant=estate.tenant).containers_used == 1


def test_a_container_that_fits_on_no_host_waits_and_says_why(estate: Estate) -> None:
    image = estate.imported()
    Quota.objects.update(memory_bytes_limit=2**42)
    container, operation = create_container(
        tenant=estate.tenant,
        name="huge",
        image=image,
        requested_by="t",
        sizes=Sizes(memory_bytes=2**20 * MIB),
    )
    estate.step()
    operation.refresh_from_db()
    assert operation.state == State.ACTIVE
    assert "memory" in operation.detail
    estate.settle(delete_container(container=container, requested_by="t"))
    estate.assert_nothing_is_left()


def test_a_pool_that_does_not_answer_is_waited_for(fragile: Estate) -> None:
    image = fragile.imported()
    fragile.lab.do(lambda lab: _reachable(lab, to=False))
    _, operation = fragile.container(image)
    fragile.step()
    operation.refresh_from_db()
    assert (operation.state, operation.trouble) == (State.ACTIVE, Trouble.UNREACHABLE)
    fragile.lab.do(lambda lab: _reachable(lab, to=True))
    assert fragile.settle(operation).state == State.SUCCEEDED
    fragile.assert_runs_once(fragile.instance_of(Container.objects.get()))


def _reachable(lab: Any, *, to: bool) -> None:
    for machine in lab.machines.values():
        machine.reachable = to


def test_wrong_credentials_are_told_and_lose_nothing(fragile: Estate) -> None:
    image = fragile.imported()
    right = fragile.lab.password
    fragile.lab.do(lambda lab: _password(lab, "another"))
    _, operation = fragile.container(image)
    fragile.step()
    operation.refresh_from_db()
    assert (operation.state, operation.trouble) == (State.ACTIVE, Trouble.UNREACHABLE)
    assert "credentials" in operation.events.filter(what="retrying").latest("pk").message.lower()
    fragile.lab.do(lambda lab: _password(lab, right))
    assert fragile.settle(operation).state == State.SUCCEEDED


def _password(lab: Any, to: str) -> None:
    root = lab.sessions.accounts["root"]
    lab.sessions.accounts["root"] = replace(root, password=to)
    lab.sessions.forget_all()


def test_a_certificate_that_nobody_vouched_for_is_not_talked_to(fragile: Estate) -> None:
    image = fragile.imported()
    fragile.lab.do(_new_certificates)
    fragile.hypervisor.close()
    _, operation = fragile.container(image)
    fragile.step()
    operation.refresh_from_db()
    assert (operation.state, operation.trouble) == (State.ACTIVE, Trouble.UNREACHABLE)
    assert "certificate" in operation.detail.lower()


def _new_certificates(lab: Any) -> None:
    for machine in lab.machines.values():
        machine.use_certificate(*make_certificate(machine.name, machine.address))
