import pytest
from django.core.cache import cache
from django.db import connection


@pytest.mark.django_db
def test_it_runs_on_postgresql() -> None:
    assert connection.vendor == "postgresql"


@pytest.mark.django_db
def test_it_has_a_cache_that_keeps() -> None:
    cache.set("ground", "held", 10)
    assert cache.get("ground") == "held"
