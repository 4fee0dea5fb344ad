"""A transfer that breaks off goes on where it broke; whatever comes of it is held against the digest."""

import random
from collections.abc import Callable
from io import BytesIO

import pytest

from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import digest_of
from worker.images import ImageError, Images, Limits, Reference
from worker.images.errors import DigestMismatch, PullRefused, RegistryBusy, RegistryUnreachable
from worker.images.records import Descriptor
from worker.images.registry import Repository
from worker.images.ways import Ways

BLOB = random.Random(1).randbytes(300_000)
DIGEST = digest_of(BLOB)
PATH = f"blobs/{DIGEST}"

Pull = Callable[[], bytes]


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def pull(images: Images, web: Reference, registry: Registry, pauses: list[float]) -> Pull:
    """The blob's bytes as they come, behind some that were there already."""
    registry.store.blobs[DIGEST] = BLOB

    def go() -> bytes:
        ways = Ways(pause=pauses.append)
        with Repository(web, None, images.reach, Limits(), ways) as repository:
            into = BytesIO(b"before")
            into.seek(0, 2)
            repository.pull(Descriptor("layer", DIGEST, len(BLOB)), into)
            assert into.getvalue().startswith(b"before")
            return into.getvalue()[6:]

    return go


def asked(registry: Registry) -> list[tuple[str | None, str | None]]:
    """Range and If-Range of each request for the blob."""
    return [
        (headers.get("range"), headers.get("if-range"))
        for path, headers in registry.seen
        if path.endswith(PATH)
    ]


def test_it_goes_on_where_it_broke(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "cut", times=2)
    assert pull() == BLOB
    tag = f'"{DIGEST}"'
    assert asked(registry) == [
        (None, None),
        ("bytes=150000-", tag),
        ("bytes=225000-", tag),
    ]


def test_a_server_that_knows_no_ranges_is_begun_anew(pull: Pull, registry: Registry) -> None:
    registry.knows_ranges = False
    registry.faults.add(PATH, "cut", times=2)
    assert pull() == BLOB
    assert len(asked(registry)) == 3


def test_tries_are_bounded_and_ever_further_apart(
    pull: Pull, registry: Registry, pauses: list[float]
) -> None:
    registry.faults.add(PATH, "cut")
    with pytest.raises(RegistryUnreachable):
        pull()
    assert len(asked(registry)) == 6
    assert pauses == sorted(pauses)
    assert len(pauses) == 5


def test_what_never_began_is_not_tried_again_here(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "status", status=500)
    with pytest.raises(ImageError):
        pull()
    assert len(asked(registry)) == 1


def test_a_fault_between_two_parts_is_tried_again(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "status", status=502, times=2)
    assert pull() == BLOB


@pytest.mark.parametrize(("wish", "passes"), [("3", True), ("3600", False), ("", False)])
def test_a_registry_that_is_busy_between_two_parts_is_given_a_short_time(
    pull: Pull, registry: Registry, pauses: list[float], wish: str, passes: bool
) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "status", status=429, headers={"Retry-After": wish}, times=1)
    if passes:
        assert pull() == BLOB
        assert 3 in pauses
    else:
        with pytest.raises(RegistryBusy):
            pull()


def test_rights_that_end_between_two_parts_are_ended(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "status", status=403)
    with pytest.raises(PullRefused):
        pull()


def test_garbage_in_one_answer_is_refused_at_once(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "wrong_bytes")
    with pytest.raises(DigestMismatch):
        pull()
    assert len(asked(registry)) == 1


def test_pieces_that_do_not_fit_are_thrown_away_and_begun_anew(
    pull: Pull, registry: Registry
) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "wrong_bytes", times=1)
    assert pull() == BLOB
    assert [range_ for range_, _ in asked(registry)] == [None, "bytes=150000-", None]


@pytest.mark.parametrize("said", ["bytes 0-149999/300000", "bytes 150001-299999/300000", "", "x"])
def test_another_range_than_was_asked_for_is_not_used(
    pull: Pull, registry: Registry, said: str
) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "headers", headers={"Content-Range": said}, times=1)
    assert pull() == BLOB
    assert [range_ for range_, _ in asked(registry)] == [None, "bytes=150000-", None]


def test_a_range_nobody_asked_for_is_a_fault(pull: Pull, registry: Registry) -> None:
    registry.faults.add(PATH, "status", status=206)
    with pytest.raises(ImageError) as caught:
        pull()
    assert caught.value.code == "registry_failed"


def test_less_than_promised_without_a_break_is_another_blob(pull: Pull, registry: Registry) -> None:
    registry.store.blobs[DIGEST] = BLOB[:-1]
    with pytest.raises(DigestMismatch):
        pull()


def test_a_disk_is_made_of_layers_that_broke_off(
    images: Images, worker: Reference, registry: Registry
) -> None:
    registry.faults.add("blobs/", "cut", times=3)
    image = images.resolve(worker)
    with images.spool.file() as target:
        assert images.build(image, target).size_bytes


def test_no_part_is_fetched_from_where_nothing_may_be_fetched(
    pull: Pull, registry: Registry
) -> None:
    registry.faults.add(PATH, "cut", times=1)
    registry.faults.add(PATH, "redirect", status=307, to="http://10.0.0.1/blob", times=1)
    with pytest.raises(ImageError) as caught:
        pull()
    assert caught.value.code == "registry_not_allowed"
