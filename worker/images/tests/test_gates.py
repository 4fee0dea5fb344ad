"""How hard a machine's workers press one registry."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from worker.images import Credentials, Images, Reference
from worker.images.deadline import Deadline
from worker.images.errors import RegistryBusy, TookTooLong
from worker.images.gates import Gates
from worker.images.ways import Ways

SOON = timedelta(seconds=0.05)
LONG = timedelta(minutes=10)


class Clock:
    """Time passes in pauses only."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.paused = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.paused += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gates(tmp_path: Path, clock: Clock) -> Gates:
    folder = tmp_path / "gates"
    folder.mkdir()
    return Gates(folder, 2, 1000, clock.pause, clock)


@pytest.fixture
def gated(images: Images, gates: Gates) -> Images:
    return replace(images, ways=Ways(gates=replace(gates, bytes_per_second=0)))


def test_so_many_requests_to_one_host_and_no_more(gates: Gates) -> None:
    with gates.request("a:443", Deadline(LONG)), gates.request("a:443", Deadline(LONG)):
        other = replace(gates)  # of another worker: only the folder is shared
        with pytest.raises(TookTooLong), other.request("a:443", Deadline(SOON)):
            pass
        with other.request("b:443", Deadline(SOON)):
            pass


def test_one_request_at_a_time_is_enough_for_an_image(
    images: Images, gates: Gates, web: Reference, registry: Registry
) -> None:
    """No request waits for another of the same image: not for a token, not behind a redirect."""
    registry.access = Access("token", "tenant", "secret")
    mine = Credentials("tenant", "secret")
    single = replace(images, ways=Ways(gates=replace(gates, requests=1, bytes_per_second=0)))
    image = single.resolve(web, credentials=mine)
    with single.spool.file() as target:
        single.build(image, target, credentials=mine)


def test_bytes_take_the_time_that_they_are_to_take(gates: Gates, clock: Clock) -> None:
    for _ in range(50):
        replace(gates).took("a:443", 200, Deadline(LONG))  # 10 000 bytes, of 1 000 a second
    assert 8.5 <= clock.paused <= 10
    before = clock.paused
    gates.took("b:443", 200, Deadline(LONG))
    assert clock.paused == before


def test_a_second_of_silence_is_saved_and_no_more(gates: Gates, clock: Clock) -> None:
    gates.took("a:443", 1, Deadline(LONG))
    clock.now += 3600
    gates.took("a:443", 1000, Deadline(LONG))
    assert clock.paused == 0
    gates.took("a:443", 1000, Deadline(LONG))
    assert clock.paused == pytest.approx(1.0)


def test_a_clock_that_was_set_back_stops_nobody(gates: Gates, clock: Clock) -> None:
    gates.took("a:443", 1000, Deadline(LONG))
    gates.hold("all", timedelta(hours=1))
    clock.now -= 500_000
    gates.took("a:443", 1, Deadline(LONG))
    gates.wait_for("all", "a", Deadline(LONG))
    assert clock.paused == 0


def test_a_hold_is_waited_for_when_short_and_told_when_long(gates: Gates, clock: Clock) -> None:
    gates.hold("a", timedelta(seconds=5))
    gates.wait_for("b", "host", Deadline(LONG))
    assert clock.paused == 0
    gates.wait_for("a", "host", Deadline(LONG))
    assert clock.paused == 5
    gates.hold("a", timedelta(seconds=50))
    with pytest.raises(RegistryBusy) as caught:
        gates.wait_for("a", "host", Deadline(LONG))
    assert caught.value.retry_after == timedelta(seconds=50)


def test_after_a_429_nobody_asks_until_it_is_time(
    gated: Images, web: Reference, registry: Registry, clock: Clock
) -> None:
    registry.faults.add("manifests", "status", status=429, headers={"Retry-After": "30"}, times=1)
    with pytest.raises(RegistryBusy):
        gated.resolve(web)
    asked = len(registry.seen)
    with pytest.raises(RegistryBusy) as caught:
        gated.resolve(web)
    assert caught.value.retry_after == timedelta(seconds=30)
    assert len(registry.seen) == asked
    clock.now += 25
    gated.resolve(web)
    assert clock.paused == 5


def test_one_accounts_429_is_no_other_accounts(
    gated: Images, web: Reference, registry: Registry
) -> None:
    registry.faults.add("manifests", "status", status=429, headers={"Retry-After": "30"}, times=1)
    with pytest.raises(RegistryBusy):
        gated.resolve(web)
    gated.resolve(web, credentials=Credentials("tenant", "secret"))


def test_the_last_pull_of_docker_hubs_window_is_the_last(
    gated: Images, web: Reference, registry: Registry
) -> None:
    said = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    registry.faults.add("/manifests/1.0", "headers", headers=said, times=1)
    with pytest.raises(RegistryBusy) as caught:
        gated.resolve(web)
    # 21 600 seconds for 100 pulls: the next is free after 216.
    assert caught.value.retry_after == timedelta(seconds=216)
    assert [headers[":method"] for _, headers in registry.seen] == ["GET"]


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        ("100;w=21600", "1;w=21600"),
        ("", "0"),
        ("0;w=1", "0"),
        ("many;w=x", "none"),
        ("9" * 99, "0"),
    ],
)
def test_other_words_about_limits_hold_nobody(
    gated: Images, web: Reference, registry: Registry, limit: str, remaining: str
) -> None:
    said = {"RateLimit-Limit": limit, "RateLimit-Remaining": remaining}
    registry.faults.add("manifests", "headers", headers=said)
    gated.resolve(web)


def test_what_a_host_has_said_an_hour_ago_is_swept(gates: Gates) -> None:
    assert gates.folder is not None
    gates.hold("old", timedelta(seconds=5))
    for file in gates.folder.glob("hold-*"):
        os.utime(file, (0, 0))
    gates.took("new:443", 1, Deadline(LONG))
    assert [file.name.partition("-")[0] for file in gates.folder.glob("*-*")] == ["pace"]
