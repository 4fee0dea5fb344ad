import pytest
from django.db import IntegrityError, transaction

from hosting.alarms.selectors import audit_of
from hosting.errors import Conflict, QuotaExceeded
from tenants.models import Quota
from tenants.services import change_limits, give_back_quota, set_limits, take_quota
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db


def test_what_is_taken_is_counted() -> None:
    tenant = make_tenant(vcpus=4)
    take_quota(tenant, {"vcpus": 3, "memory_bytes": 2**30})
    quota = Quota.objects.get(tenant=tenant)
    assert (quota.vcpus_used, quota.memory_bytes_used) == (3, 2**30)


def test_the_last_piece_may_be_taken_and_no_more() -> None:
    tenant = make_tenant(vcpus=4)
    take_quota(tenant, {"vcpus": 4})
    with pytest.raises(QuotaExceeded):
        take_quota(tenant, {"vcpus": 1})


def test_one_short_dimension_takes_nothing_of_the_others() -> None:
    tenant = make_tenant(vcpus=4)
    with pytest.raises(QuotaExceeded, match="vcpus \\(4 left\\)"):
        take_quota(tenant, {"containers": 1, "vcpus": 5})
    assert Quota.objects.get(tenant=tenant).containers_used == 0


def test_what_is_given_back_may_be_taken_again() -> None:
    tenant = make_tenant(containers=1)
    take_quota(tenant, {"containers": 1})
    give_back_quota(tenant, {"containers": 1})
    take_quota(tenant, {"containers": 1})


def test_more_than_was_taken_cannot_come_back() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        give_back_quota(make_tenant(), {"containers": 1})


def test_the_database_itself_refuses_an_oversold_quota() -> None:
    tenant = make_tenant(containers=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Quota.objects.filter(tenant=tenant).update(containers_used=2)


def test_a_limit_does_not_go_below_what_is_used() -> None:
    tenant = make_tenant(containers=5)
    take_quota(tenant, {"containers": 3})
    set_limits(tenant, {"containers": 3})
    with pytest.raises(Conflict):
        set_limits(tenant, {"containers": 2})


def test_an_unknown_dimension_is_a_bug() -> None:
    with pytest.raises(ValueError, match="unicorns"):
        take_quota(make_tenant(), {"unicorns": 1})


def test_a_limit_that_a_person_changes_is_written_down_with_what_it_was() -> None:
    tenant = make_tenant(vcpus=4)
    change_limits(tenant=tenant, limits={"vcpus": 8}, actor="user:olga", address="192.0.2.7")
    entry = audit_of(f"tenant:{tenant.pk}").get()
    assert (entry.actor, entry.action) == ("user:olga", "tenant.set_limits")
    assert entry.facts == {"from": {"vcpus": 4}, "to": {"vcpus": 8}}


def test_a_limit_that_is_refused_is_not_written_down() -> None:
    tenant = make_tenant(vcpus=4)
    take_quota(tenant, {"vcpus": 3})
    with pytest.raises(Conflict):
        change_limits(tenant=tenant, limits={"vcpus": 2}, actor="user:olga")
    assert not audit_of(f"tenant:{tenant.pk}").exists()
