"""What containers wrote, as it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from hosting.compute.output import (
    LONGEST_LINE,
    MOST_LINES,
    Written,
    append_lines,
    forget_lines,
    last_lines,
)
from hosting.errors import Unavailable

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
def instance(servers: None) -> Iterator[UUID]:
    uuid = uuid4()
    yield uuid
    forget_lines(uuid)


def texts(instance: UUID, most: int = MOST_LINES) -> list[str]:
    return [line.text for line in last_lines(instance, most)]


def test_lines_come_back_in_order(instance: UUID) -> None:
    append_lines(instance, [Written("one"), Written("two")])
    append_lines(instance, [Written("drei ☃")])
    assert texts(instance) == ["one", "two", "drei ☃"]
    assert texts(instance, 2) == ["two", "drei ☃"]
    first, *_, last = last_lines(instance)
    assert first.at <= last.at


def test_only_the_newest_are_kept_and_each_is_cut(instance: UUID) -> None:
    append_lines(instance, (Written(str(number)) for number in range(MOST_LINES + 5)))
    append_lines(instance, [Written("x" * (LONGEST_LINE + 1))])
    kept = texts(instance)
    assert len(kept) == MOST_LINES
    assert kept[0] == "6"
    assert len(kept[-1]) == LONGEST_LINE


def test_of_what_never_wrote_there_is_nothing(instance: UUID) -> None:
    assert last_lines(uuid4()) == []


def test_a_redis_that_does_not_answer_is_said_so(instance: UUID, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(Unavailable):
        last_lines(instance)
