"""Mirrors spare the registry the sending; they decide nothing, unless the operator says so."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import demonstration
from deploy.lab.registry.server import serving
from worker.images import Credentials, Images, Reach, Reference
from worker.images.errors import (
    ImageUnknown,
    PullRefused,
    RegistryNotAllowed,
    RegistryUnreachable,
)
from worker.images.mirrors import Mirror, Mirrors
from worker.images.ways import Ways

SECRET = Credentials("tenant", "secret")


@pytest.fixture
def mirror() -> Iterator[tuple[Registry, str]]:
    other = Registry(demonstration())
    with serving(other) as where:
        yield other, where


@pytest.fixture
def mirrored(images: Images, authority: str, mirror: tuple[Registry, str]) -> Images:
    return with_mirrors(images, f"{authority}=http://{mirror[1]}")


def with_mirrors(images: Images, *pairs: str, stand_in: tuple[str, ...] = ()) -> Images:
    mirrors = Mirrors.parse(pairs, stand_in)
    return replace(images, ways=Ways(mirrors, pause=lambda seconds: None))


def pulled(images: Images, reference: Reference, credentials: Credentials | None = None) -> bytes:
    image = images.resolve(reference, credentials=credentials)
    with images.spool.file() as target:
        images.build(image, target, credentials=credentials)
        target.seek(0)
        return target.read()


def bodies(registry: Registry) -> list[str]:
    return [path for path, said in registry.seen if said[":method"] == "GET"]


def test_bytes_come_from_the_mirror_and_the_word_from_the_registry(
    mirrored: Images,
    images: Images,
    web: Reference,
    registry: Registry,
    mirror: tuple[Registry, str],
) -> None:
    wanted = pulled(images, web)
    registry.seen.clear()
    assert pulled(mirrored, web) == wanted
    assert bodies(registry) == []
    assert len(bodies(mirror[0])) >= 4
    assert not any("1.0" in path for path in bodies(mirror[0]))  # a tag is not the mirror's to read


def test_an_old_tag_at_the_mirror_does_not_count(
    mirrored: Images, authority: str, images: Images, mirror: tuple[Registry, str]
) -> None:
    manifests = mirror[0].store.manifests
    manifests["web", "1.0"] = manifests["worker", "2.1"]
    reference = Reference.parse(f"{authority}/web:1.0")
    assert mirrored.resolve(reference) == images.resolve(reference)


@pytest.mark.parametrize("kind", ["wrong_bytes", "endless", "cut"])
@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_a_mirror_that_gives_something_else_is_passed_over(
    mirrored: Images,
    images: Images,
    worker: Reference,
    mirror: tuple[Registry, str],
    path: str,
    kind: str,
) -> None:
    wanted = pulled(images, worker)
    mirror[0].faults.add(path, kind)  # type: ignore[arg-type]
    assert pulled(mirrored, worker) == wanted


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_mirror_that_says_no_is_passed_over(
    mirrored: Images, web: Reference, mirror: tuple[Registry, str], status: int
) -> None:
    mirror[0].faults.add("/v2/", "status", status=status)
    assert pulled(mirrored, web)


def test_mirrors_are_tried_in_their_order_and_a_dead_one_once(
    images: Images, authority: str, web: Reference, mirror: tuple[Registry, str], registry: Registry
) -> None:
    ours = with_mirrors(
        images, f"{authority}=http://127.0.0.1:1", f"{authority}=http://{mirror[1]}"
    )
    pulled(ours, web)
    assert bodies(registry) == []


def test_a_prefix_is_put_before_the_repository(
    images: Images, authority: str, web: Reference, mirror: tuple[Registry, str]
) -> None:
    other, where = mirror
    for (owner, name), found in list(other.store.manifests.items()):
        other.store.manifests[f"hub/{owner}", name] = found
    pulled(with_mirrors(images, f"{authority}=http://{where}/hub/"), web)
    assert all(path.startswith("/v2/hub/web/") for path in bodies(other))


def test_other_registries_mirrors_are_not_asked(
    images: Images, web: Reference, mirror: tuple[Registry, str]
) -> None:
    pulled(with_mirrors(images, f"docker.io=http://{mirror[1]}"), web)
    assert mirror[0].seen == []


# ------------------------------------------------------------------------------------------- who may read


def test_a_mirror_sees_no_credentials_even_when_it_asks(
    mirrored: Images, web: Reference, registry: Registry, mirror: tuple[Registry, str]
) -> None:
    registry.access = Access("basic", SECRET.username, SECRET.password)
    mirror[0].access = Access("basic", SECRET.username, SECRET.password)
    assert pulled(mirrored, web, SECRET)
    assert mirror[0].seen
    assert not any("authorization" in said for _, said in mirror[0].seen)


def test_who_is_refused_by_the_registry_gets_nothing_from_its_mirror(
    mirrored: Images, web: Reference, registry: Registry, mirror: tuple[Registry, str]
) -> None:
    image = mirrored.resolve(web)
    registry.access = Access("basic", SECRET.username, SECRET.password)
    mirror[0].seen.clear()
    for reference in (web, image.reference):
        with pytest.raises(PullRefused):
            mirrored.resolve(reference)
    with mirrored.spool.file() as target, pytest.raises(PullRefused):
        mirrored.build(image, target)
    assert mirror[0].seen == []


def test_a_registry_that_is_down_is_down_though_it_has_a_mirror(
    images: Images, mirror: tuple[Registry, str]
) -> None:
    ours = with_mirrors(images, f"127.0.0.1:1=http://{mirror[1]}")
    with pytest.raises(RegistryUnreachable):
        ours.resolve(Reference.parse("127.0.0.1:1/web:1.0"))


def test_mirrors_that_stand_in_are_asked_alone(
    images: Images, mirror: tuple[Registry, str]
) -> None:
    ours = with_mirrors(images, f"127.0.0.1:1=http://{mirror[1]}", stand_in=("127.0.0.1:1",))
    assert pulled(ours, Reference.parse("127.0.0.1:1/web:1.0"))


def test_what_a_stand_in_does_not_have_is_asked_of_the_registry(
    images: Images, authority: str, web: Reference, mirror: tuple[Registry, str]
) -> None:
    mirror[0].store.manifests.clear()
    ours = with_mirrors(images, f"{authority}=http://{mirror[1]}", stand_in=(authority,))
    assert pulled(ours, web)
    with pytest.raises(ImageUnknown):
        ours.resolve(Reference.parse(f"{authority}/nothing"))


# ------------------------------------------------------------------------------------------- where it leads


def test_a_mirror_may_be_in_a_private_network_and_tenants_still_may_not(
    images: Images, authority: str, mirror: tuple[Registry, str]
) -> None:
    _, where = mirror
    ours = replace(with_mirrors(images, f"docker.io=http://{where}"), reach=Reach.parse())
    ours = replace(
        ours,
        ways=replace(
            ours.ways, mirrors=replace(ours.ways.mirrors, stand_in=frozenset({"docker.io"}))
        ),
    )
    for (owner, name), found in list(mirror[0].store.manifests.items()):
        mirror[0].store.manifests[f"library/{owner}", name] = found
    assert ours.resolve(Reference.parse("web:1.0")).reference.domain == "docker.io"
    for tenants in (where, authority):
        with pytest.raises(RegistryNotAllowed):
            ours.resolve(Reference.parse(f"{tenants}/web:1.0"))


def test_a_mirror_leads_nowhere_that_is_not_allowed(
    images: Images, authority: str, mirror: tuple[Registry, str]
) -> None:
    """A mirror passes on what the registry, a stranger, tells it."""
    other, where = mirror
    ours = with_mirrors(images, f"docker.io=http://{where}", stand_in=("docker.io",))
    ours = replace(ours, reach=Reach(lookup=lambda host, port: ["127.0.0.1"]))
    other.faults.add("/v2/", "redirect", status=307, to=f"http://{authority}/v2/web/manifests/1.0")
    with pytest.raises(RegistryNotAllowed):
        ours.resolve(Reference.parse("web:1.0"))


# ------------------------------------------------------------------------------------------- settings


def test_settings_are_read() -> None:
    mirrors = Mirrors.parse(
        [
            "docker.io=https://a.example",
            "Index.docker.io = https://b.example:5000/hub/",
            "q.io=http://c",
        ],
        ["docker.io"],
    )
    first, second = mirrors.of("docker.io")
    assert (first.origin.authority, first.prefix) == ("a.example", "")
    assert (second.origin.authority, second.prefix) == ("b.example:5000", "hub/")
    assert mirrors.of("Q.io") == (Mirror.parse("http://c"),)
    assert mirrors.stand_in_for("docker.io")
    assert not mirrors.stand_in_for("q.io")
    assert mirrors.of("other.example") == ()


@pytest.mark.parametrize(
    "pair",
    [
        "docker.io",
        "docker.io=",
        "docker.io=ftp://a",
        "docker.io=https://u:p@a",
        "docker.io=https://a?b",
        "=https://a",
        "quay=https://a",
        "a b.io=https://a",
        "docker.io=https://[",
    ],
)
def test_a_mirror_that_makes_no_sense_is_refused(pair: str) -> None:
    with pytest.raises(ValueError):
        Mirrors.parse([pair])
