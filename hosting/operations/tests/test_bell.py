"""The bell: rung by name, never relied upon."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from hosting.operations import bell
from hosting.operations.choices import Queue


class Tower:
    """Celery's application, as far as the bell knows it."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.tries = 0
        self.sent: list[tuple[str, list[str], dict[str, Any]]] = []

    def send_task(self, name: str, args: list[str], **options: Any) -> None:
        self.tries += 1
        if self.broken:
            raise ConnectionError("nobody listens")
        self.sent.append((name, args, options))


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch) -> Tower:
    tower = Tower()
    monkeypatch.setattr(bell, "app", tower)
    return tower


def ring(*kinds: str) -> list[UUID]:
    uuids = [uuid4() for _ in kinds]
    bell._ring(list(zip(uuids, kinds, strict=True)))
    return uuids


def test_it_rings_by_name_in_the_queue_of_the_kind(tower: Tower) -> None:
    uuids = ring("host.recover", "image.import", "instance.start")
    assert [args for _, args, _ in tower.sent] == [[str(uuid)] for uuid in uuids]
    assert {name for name, _, _ in tower.sent} == {"worker.tasks.advance"}
    assert [o["queue"] for _, _, o in tower.sent] == [Queue.RECOVERY, Queue.IMAGES, Queue.TENANT]


def test_long_steps_get_long_limits_below_their_lease(tower: Tower) -> None:
    ring("instance.start", "image.import")
    limits = [(o["soft_time_limit"], o["time_limit"]) for _, _, o in tower.sent]
    assert limits == [(60, 90), (1800, 2700)]


def test_a_broker_that_does_not_answer_is_asked_once_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = Tower(broken=True)
    monkeypatch.setattr(bell, "app", tower)
    ring("instance.start", "instance.start", "instance.start")
    assert tower.tries == 1


def test_nothing_to_ring_for_asks_nothing(
    db: None, tower: Tower, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        bell.ring_on_commit([])
    assert callbacks == []
