"""Every test's ground: the settings' environment, and the servers that a run brings itself.

PostgreSQL and Redis are started when the first test asks for the database, unless DATABASE_URL (REDIS_URL)
names one that is there already.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import django
import pytest

from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.service import Service, serving

_PLACE = tempfile.TemporaryDirectory(prefix="bulkhead-test-", ignore_cleanup_errors=True)
_FOLDER = Path(_PLACE.name)
_FOLDER.chmod(0o711)  # run by root, PostgreSQL is nobody and must pass through
_BROUGHT: list[Service] = []

_BEFORE = dict(os.environ)
if "DATABASE_URL" not in os.environ:
    _BROUGHT.append(Postgres(_FOLDER / "postgres", _FOLDER / "pg", durable=False))
if "REDIS_URL" not in os.environ:
    _BROUGHT.append(Redis(_FOLDER / "redis"))
for _service in _BROUGHT:
    os.environ.update(_service.environment())
os.environ["ENVIRONMENT"] = "test"
os.environ["NO_COLOR"] = "1"
# Tests that load the web must not share its pool: each closes what it opened.
os.environ["DATABASE_POOL_SIZE"] = "0"
os.environ["SECRET_KEY"] = "a key for tests, which sign nothing of worth"
os.environ["DJANGO_SETTINGS_MODULE"] = "hosting.settings"
# Here and not in a hook: the conftest files below this one may import models.
django.setup()


def pytest_xdist_setupnodes() -> None:
    """Processes that run tests side by side each make this ground for themselves: they inherit nothing of it."""
    for name in os.environ.keys() - _BEFORE.keys():
        del os.environ[name]
    os.environ.update(_BEFORE)


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """PostgreSQL and Redis answer, whoever brought them."""
    with ExitStack() as stack:
        for service in _BROUGHT:
            stack.enter_context(serving(service, _FOLDER / f"{service.name}.log"))
        yield


@pytest.fixture(scope="session")
def django_db_setup(servers: None, django_db_setup: None) -> None:
    """pytest-django's own, on a server that answers."""
