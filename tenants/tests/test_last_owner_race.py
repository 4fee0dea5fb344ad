from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from hosting.errors import Conflict
from tenants.choices import Role
from tenants.models import Membership, User
from tenants.services import remove_member
from tenants.tests.makers import make_member, make_tenant, make_user


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_do_not_leave_the_tenant_alone() -> None:
    first = make_user()
    tenant = make_tenant(owner=first)
    second = make_member(tenant, Role.OWNER).user
    start = Barrier(2)

    def leave(user: User) -> bool:
        start.wait(10)
        try:
            remove_member(tenant=tenant, user=user)
        except Conflict:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        left = list(pool.map(leave, [first, second]))
    assert sorted(left) == [False, True]
    assert Membership.objects.filter(tenant=tenant, role=Role.OWNER).count() == 1
