"""A machine's blobs: pulled once, checked each time, and given to nobody whom the registry does not let in."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from starlette.responses import Response

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import Store, demonstration, digest_of
from deploy.lab.registry.server import serving
from worker.images import Credentials, Images, Reference
from worker.images.cache import BlobCache
from worker.images.deadline import Deadline
from worker.images.errors import ImageUnknown, PullRefused, RegistryUnreachable
from worker.images.records import Resolved
from worker.images.ways import Ways

GOOD = Credentials("tenant-a", "open sesame")


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> BlobCache:
    return BlobCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def cached(images: Images, cache: BlobCache) -> Images:
    return replace(images, ways=Ways(cache=cache, pause=lambda seconds: None))


@pytest.fixture
def elsewhere() -> Iterator[tuple[Registry, str]]:
    """Another registry, of whoever wants one."""
    other = Registry(Store())
    with serving(other) as where:
        yield other, where


def build(images: Images, image: Resolved, credentials: Credentials | None = None) -> bytes:
    with images.spool.file() as target:
        images.build(image, target, credentials=credentials)
        target.seek(0)
        return target.read()


def got(registry: Registry, what: str = "/blobs/") -> list[str]:
    return [path for path, said in registry.seen if what in path and said[":method"] == "GET"]


# ------------------------------------------------------------------------------------------- what it spares


def test_what_was_pulled_once_is_not_pulled_again(
    cached: Images, images: Images, worker: Reference, registry: Registry
) -> None:
    first = build(cached, cached.resolve(worker))
    registry.seen.clear()
    image = cached.resolve(worker)
    assert build(cached, image) == first == build(images, image)
    registry.seen.clear()
    build(cached, cached.resolve(worker))
    assert got(registry) == got(registry, "/manifests/") == []
    assert {said[":method"] for _, said in registry.seen} == {"HEAD"}


def test_a_tag_that_moved_is_seen(cached: Images, web: Reference, registry: Registry) -> None:
    before = cached.resolve(web)
    manifests = registry.store.manifests
    manifests["web", "1.0"] = manifests["worker", "2.1"]
    for (_, name), found in list(manifests.items()):
        manifests["web", name] = found if name.startswith("sha256") else manifests["web", "1.0"]
    assert cached.resolve(web).digest != before.digest


def test_a_registry_that_knows_no_head_is_asked_whole(
    cached: Images, web: Reference, registry: Registry
) -> None:
    image = cached.resolve(web)

    class NoHead(Access):
        def refuses(self, request, repository):  # type: ignore[no-untyped-def]
            return Response(status_code=405) if request.method == "HEAD" else None

    registry.access = NoHead()
    assert cached.resolve(web) == image
    build(cached, image)


def test_the_same_registrys_other_repository_is_asked_and_not_pulled(
    cached: Images, authority: str, registry: Registry
) -> None:
    build(cached, cached.resolve(Reference.parse(f"{authority}/web:1.0")))
    for (owner, name), found in list(registry.store.manifests.items()):
        if owner == "web":
            registry.store.manifests["copy/of-web", name] = found
    registry.seen.clear()
    image = cached.resolve(Reference.parse(f"{authority}/copy/of-web:1.0"))
    build(cached, image)
    assert got(registry) == []


def test_two_who_want_the_same_blob_pull_it_once(
    cached: Images, images: Images, web: Reference, registry: Registry
) -> None:
    image = images.resolve(web)
    registry.seen.clear()
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(build(cached, image))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    assert len(set(results)) == 1
    assert sorted(got(registry)) == sorted(set(got(registry)))


# ------------------------------------------------------------------------------------------- who may have it


@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_a_tenant_whom_the_registry_refuses_gets_nothing_that_another_has_pulled(
    cached: Images, web: Reference, registry: Registry, scheme: str
) -> None:
    registry.access = Access(scheme, GOOD.username, GOOD.password)  # type: ignore[arg-type]
    image = cached.resolve(web, credentials=GOOD)
    disk = build(cached, image, GOOD)
    for wrong in (None, Credentials("tenant-b", "guessed")):
        with pytest.raises(PullRefused):
            cached.resolve(web, credentials=wrong)
        with pytest.raises(PullRefused):
            cached.resolve(image.reference, credentials=wrong)
        with pytest.raises(PullRefused):  # though what it is has become known to him
            build(cached, image, wrong)
    assert build(cached, image, GOOD) == disk


def test_a_registry_that_does_not_answer_lets_nobody_in(
    cached: Images, elsewhere: tuple[Registry, str]
) -> None:
    other, _ = elsewhere
    other.store = demonstration()
    with serving(other) as gone:
        image = cached.resolve(Reference.parse(f"{gone}/web:1.0"))
        build(cached, image)
    with pytest.raises(RegistryUnreachable):
        build(cached, image)


def test_naming_a_digest_in_ones_own_registry_does_not_give_its_bytes(
    cached: Images, worker: Reference, registry: Registry, elsewhere: tuple[Registry, str]
) -> None:
    """Tenant B knows the digests of tenant A's layers, and has a registry that says yes to everything."""
    registry.access = Access("basic", GOOD.username, GOOD.password)
    build(cached, cached.resolve(worker, credentials=GOOD), GOOD)
    other, where = elsewhere
    other.store.manifests.update(registry.store.manifests)
    mine = Reference.parse(f"{where}/{worker.path}:{worker.tag}")
    with pytest.raises(ImageUnknown):
        cached.resolve(mine)
    image = cached.resolve(worker, credentials=GOOD)
    layer = image.layers[0].blob
    for blob in registry.store.blobs:
        if blob != layer.digest:
            other.store.blobs[blob] = registry.store.blobs[blob]
    stolen = cached.resolve(mine)
    with pytest.raises(ImageUnknown):
        build(cached, stolen)


def test_the_same_registrys_other_repository_that_lacks_a_blob_does_not_give_it(
    cached: Images, authority: str, registry: Registry
) -> None:
    image = cached.resolve(Reference.parse(f"{authority}/web:1.0"))
    build(cached, image)
    for (owner, name), found in list(registry.store.manifests.items()):
        if owner == "web":
            registry.store.manifests["other", name] = found
    registry.faults.add("/other/blobs/", "status", status=404)
    with pytest.raises(ImageUnknown):
        build(cached, replace(image, reference=Reference.parse(f"{authority}/other:1.0")))


# ------------------------------------------------------------------------------------------- what disks do


def test_a_turned_bit_is_never_used(
    cached: Images, cache: BlobCache, worker: Reference, registry: Registry
) -> None:
    image = cached.resolve(worker)
    disk = build(cached, image)
    spoiled = 0
    for file in cache.folder.glob("blobs/*/bytes"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        spoiled += 1
    assert spoiled >= 3
    registry.seen.clear()
    assert build(cached, image) == disk
    assert len(got(registry)) == len({layer.blob.digest for layer in image.layers})
    registry.seen.clear()
    assert build(cached, image) == disk
    assert got(registry) == []


@pytest.mark.parametrize("how", ["shorter", "empty", "gone"])
def test_a_blob_that_is_not_whole_is_pulled_again(
    cached: Images, cache: BlobCache, web: Reference, how: str
) -> None:
    image = cached.resolve(web)
    disk = build(cached, image)
    for file in cache.folder.glob("blobs/*/bytes"):
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: 10 if how == "shorter" else 0])
    assert build(cached, image) == disk


def test_a_cache_that_cannot_be_written_costs_pulls_and_nothing_else(
    cached: Images, cache: BlobCache, web: Reference, registry: Registry
) -> None:
    (cache.folder / "blobs").write_text("in the way")
    image = cached.resolve(web)
    assert build(cached, image)
    registry.seen.clear()
    assert build(cached, image)
    assert got(registry)


def put(cache: BlobCache, data: bytes, place: str = "r/a") -> str:
    digest = digest_of(data)
    cache.put(digest, BytesIO(data), len(data), [place])
    return digest


def read(cache: BlobCache, digest: str) -> bytes | None:
    into = BytesIO()
    return into.getvalue() if cache.copy(digest, into) else None


def used_bytes(cache: BlobCache) -> int:
    return sum(file.stat().st_size for file in cache.folder.rglob("*") if file.is_file())


def test_what_a_dead_writer_left_is_cleared_away(cache: BlobCache) -> None:
    put(cache, b"1")
    (cache.folder / "new" / "half").write_bytes(b"half")
    (cache.folder / "blobs" / ("sha256-" + "0" * 64)).mkdir()
    cache.trim()
    assert list((cache.folder / "new").iterdir()) == []
    assert len(list((cache.folder / "blobs").iterdir())) == 1


def test_the_longest_unused_go_when_it_is_full(cache: BlobCache) -> None:
    now = [1000.0]
    small = replace(cache, most_bytes=3000, clock=lambda: now[0])
    kept = []
    for name in range(3):
        now[0] += 1
        kept.append(put(small, bytes([name]) * 1000))
    now[0] += 1
    assert read(small, kept[0])  # used again: not the oldest any more
    now[0] += 1
    new = put(small, b"x" * 1000)
    assert [read(small, one) is not None for one in [*kept, new]] == [True, False, True, True]
    assert used_bytes(small) <= 3000


def test_it_is_never_larger_than_its_bound(cache: BlobCache) -> None:
    small = replace(cache, most_bytes=5000)
    for name in range(40):
        put(small, bytes([name]) * (100 + 97 * name % 1900))
        assert used_bytes(small) <= 5000
    assert read(small, put(small, b"y" * 5001)) is None
    assert used_bytes(small) > 0


def test_what_is_unused_for_long_goes(cache: BlobCache) -> None:
    now = [0.0]
    mine = replace(cache, most_age=timedelta(days=2), clock=lambda: now[0])
    old = put(mine, b"old")
    now[0] += 86400
    young = put(mine, b"young")
    now[0] += 1.5 * 86400
    mine.trim()
    assert read(mine, old) is None
    assert read(mine, young) == b"young"


def test_a_reader_goes_on_reading_what_is_thrown_out(cache: BlobCache) -> None:
    data = bytes(3 * 1024**2)
    digest = put(cache, data)

    class Into(BytesIO):
        def write(self, piece: object) -> int:
            cache._remove(cache._entry(digest))
            return super().write(piece)  # type: ignore[arg-type]

    into = Into()
    assert cache.copy(digest, into)
    assert into.getvalue() == data
    assert not cache.came_from(digest, "r/a")


def test_places_are_told_apart(cache: BlobCache) -> None:
    digest = put(cache, b"1", "r/a")
    assert cache.came_from(digest, "r/a")
    assert not cache.came_from(digest, "r/b")
    cache.note(digest, ["r/b"])
    assert cache.came_from(digest, "r/b")


def test_nothing_kept_can_be_read_by_others(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    with cache.alone_at("sha256:1", "r", Deadline(timedelta(seconds=5))):
        pass
    put(cache, b"secret")
    assert cache.folder.stat().st_mode & 0o077 == 0
