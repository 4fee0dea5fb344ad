"""How processes keep their connections; settings are put back as they were."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from django.db import connections

from hosting.connections import keep_connections_in_a_pool, keep_one_connection


@pytest.fixture
def database() -> Iterator[dict[str, Any]]:
    kept: dict[str, Any] = connections.settings["default"]
    before = deepcopy(kept)
    yield kept
    kept.clear()
    kept.update(before)


def test_the_web_shares_a_pool_of_a_set_size(database: dict[str, Any], settings: Any) -> None:
    settings.DATABASE_POOL_SIZE = 7
    keep_connections_in_a_pool()
    assert database["OPTIONS"]["pool"]["max_size"] == 7
    assert database["CONN_MAX_AGE"] == 0  # which Django insists on beside a pool


def test_without_a_size_there_is_no_pool(database: dict[str, Any], settings: Any) -> None:
    settings.DATABASE_POOL_SIZE = 0
    keep_connections_in_a_pool()
    assert "pool" not in database["OPTIONS"]


def test_whoever_does_one_thing_at_a_time_keeps_one_even_after_the_web_was_loaded(
    database: dict[str, Any],
) -> None:
    keep_connections_in_a_pool()
    keep_one_connection()
    assert "pool" not in database["OPTIONS"]
    assert database["CONN_MAX_AGE"] > 0
