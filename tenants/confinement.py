"""The second line: inside `confined_to`, PostgreSQL itself shows no row of another tenant.

The first line is that everything is asked for through its tenant. Where that is forgotten, row-level security
answers with nothing (docs/design/0004-row-level-security.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from tenants.models import Tenant

ROLE = "bulkhead_tenant"
"""A role of the database that may not log in, and that the policies bind (operations/0004)."""


@contextmanager
def confined_to(tenant: Tenant) -> Iterator[None]:
    """One transaction in which only rows of `tenant`, and what is everybody's, can be seen or written.

    What is looked up before (who calls, what they may) is not confined; nor is what runs on commit.
    """
    with transaction.atomic():
        _become(ROLE, str(tenant.pk))
        yield
        # Inside a caller's own transaction the setting would outlive this one. After an error there is
        # nothing to do: what is rolled back takes it along.
        _become("none", "")


def _become(role: str, tenant: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('bulkhead.tenant', %s, true), set_config('role', %s, true)",
            [tenant, role],
        )
