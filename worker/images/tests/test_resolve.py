import json
from typing import Any

import pytest

from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import CONFIG, INDEX, LAYER, MANIFEST, as_json
from worker.images import Images, Limits, Platform, Reference
from worker.images.errors import (
    DigestMismatch,
    ImageError,
    ImageMalformed,
    ImageUnknown,
    LayerForeign,
    NotAnImage,
    NotForThisArchitecture,
    TooLarge,
)

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def test_it_reads_how_the_image_wants_to_be_run(images: Images, web: Reference) -> None:
    config = images.resolve(web).config
    assert config.argv == ("/bin/serve", "--port", "8080", "--folder", "/srv/www")
    assert config.env == ("PATH=/bin", "GREETING=Hello from Bulkhead")
    assert (config.working_dir, config.user) == ("/srv/www", "1000:1000")
    assert (config.stop_signal, config.exposed_ports) == ("SIGQUIT", ("8080/tcp",))


def test_an_index_gives_each_architecture_its_own_manifest(images: Images, web: Reference) -> None:
    amd64 = images.resolve(web)
    arm64 = images.resolve(web, platform=Platform("arm64"))
    assert amd64.digest != arm64.digest
    assert amd64.layers == arm64.layers


def test_what_was_resolved_stays_though_the_tag_moves(
    images: Images, web: Reference, registry: Registry
) -> None:
    first = images.resolve(web)
    registry.store.manifests["web", "1.0"] = registry.store.manifests["web", first.digest]
    del registry.store.manifests["web", "latest"]
    assert images.resolve(Reference.parse(str(first.reference))) == first


def test_an_index_can_be_pinned_too(images: Images, web: Reference, registry: Registry) -> None:
    _, body = registry.store.manifests["web", "1.0"]
    digest = next(
        name
        for (_, name), (_, other) in registry.store.manifests.items()
        if other == body and ":" in name
    )
    assert images.resolve(web.pinned(digest)).digest == images.resolve(web).digest


@pytest.mark.parametrize("name", ["web:9", "web@sha256:" + "0" * 64, "nobody/nothing"])
def test_an_unknown_image_is_said_to_be_unknown(images: Images, authority: str, name: str) -> None:
    with pytest.raises(ImageUnknown):
        images.resolve(Reference.parse(f"{authority}/{name}"))


def test_an_architecture_that_is_not_there_is_named(images: Images, web: Reference) -> None:
    with pytest.raises(NotForThisArchitecture, match="linux/riscv64"):
        images.resolve(web, platform=Platform("riscv64"))


def test_a_single_manifest_of_another_architecture_is_refused(
    images: Images, worker: Reference
) -> None:
    with pytest.raises(NotForThisArchitecture):
        images.resolve(worker, platform=Platform("arm64"))


def test_dockers_media_types_are_read_alike(
    images: Images, authority: str, registry: Registry
) -> None:
    manifest = manifest_of(registry, "worker")
    manifest["mediaType"] = DOCKER_MANIFEST
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    entry = registry.store.add_manifest("docker", manifest)
    index = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [for_amd64(entry)]}
    registry.store.add_manifest("docker", index, tags=["1"])
    docker = images.resolve(Reference.parse(f"{authority}/docker:1"))
    oci = images.resolve(Reference.parse(f"{authority}/worker"))
    assert docker.config == oci.config
    assert [one.diff_id for one in docker.layers] == [one.diff_id for one in oci.layers]


def test_an_index_of_indexes_is_followed_and_one_without_end_is_not(
    images: Images, authority: str, registry: Registry
) -> None:
    entry = registry.store.add_manifest("deep", manifest_of(registry, "worker"), tags=["0"])
    for depth in range(1, 5):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [for_amd64(entry)]}
        entry = registry.store.add_manifest("deep", index, tags=[str(depth)])
    found = images.resolve(Reference.parse(f"{authority}/deep:2"))
    assert found.digest == images.resolve(Reference.parse(f"{authority}/worker")).digest
    with pytest.raises(ImageMalformed):
        images.resolve(Reference.parse(f"{authority}/deep:4"))


def test_attestations_in_an_index_are_passed_over(
    images: Images, authority: str, registry: Registry
) -> None:
    entry = registry.store.add_manifest("signed", manifest_of(registry, "worker"))
    unknown = {**entry, "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [unknown, entry, for_amd64(entry)],
    }
    registry.store.add_manifest("signed", index, tags=["1"])
    assert images.resolve(Reference.parse(f"{authority}/signed:1")).digest == entry["digest"]


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
EMPTY = {"mediaType": LAYER, "digest": "sha256:" + "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, NotAnImage),
        ({"mediaType": "text/plain"}, NotAnImage),
        ({"config": None}, ImageMalformed),
        (
            {"config": {**EMPTY, "mediaType": "application/vnd.cncf.helm.config.v1+json"}},
            NotAnImage,
        ),
        ({"layers": None}, ImageMalformed),
        ({"layers": {}}, ImageMalformed),
        ({"layers": [1]}, ImageMalformed),
        ({"layers": [{**EMPTY, "size": -1}]}, ImageMalformed),
        ({"layers": [{**EMPTY, "size": True}]}, ImageMalformed),
        ({"layers": [{**EMPTY, "size": "1"}]}, ImageMalformed),
        ({"layers": [{**EMPTY, "digest": "sha256:../../etc/passwd"}]}, ImageMalformed),
        ({"layers": [{**EMPTY, "mediaType": "application/zip"}]}, NotAnImage),
        ({"layers": [{**EMPTY, "mediaType": FOREIGN, "urls": ["http://x"]}]}, LayerForeign),
        ({"layers": [{**EMPTY, "size": 2**40}]}, TooLarge),
        ({"layers": [EMPTY] * 129}, TooLarge),
        ({"layers": [EMPTY]}, ImageMalformed),  # the configuration names three
        ({"manifests": []}, ImageMalformed),  # CVE-2021-41190
    ],
)
def test_a_manifest_that_is_none_is_refused(
    images: Images,
    authority: str,
    registry: Registry,
    changes: dict[str, Any],
    error: type[ImageError],
) -> None:
    registry.store.add_manifest("bad", {**manifest_of(registry, "worker"), **changes}, tags=["1"])
    with pytest.raises(error):
        images.resolve(Reference.parse(f"{authority}/bad:1"))


@pytest.mark.parametrize(
    "config",
    [
        {"Env": "PATH=/bin"},
        {"Env": ["NOEQUALS"]},
        {"Env": ["=x"]},
        {"Env": ["A=\0"]},
        {"Env": ["A=\ud800"]},
        {"Entrypoint": [1]},
        {"Cmd": "sh"},
        {"User": 0},
        {"WorkingDir": []},
        {"ExposedPorts": ["80/tcp"]},
        {"ExposedPorts": {"0/tcp": {}}},
        {"ExposedPorts": {"99999": {}}},
        {"ExposedPorts": {"80/icmp": {}}},
        {"Cmd": ["x"] * 5000},
        ["text"],
        "text",
    ],
)
def test_a_malformed_configuration_is_refused(
    images: Images, authority: str, registry: Registry, config: object
) -> None:
    put_config(registry, {"config": config})
    with pytest.raises(ImageMalformed):
        images.resolve(Reference.parse(f"{authority}/bad:1"))


@pytest.mark.parametrize(
    "rootfs",
    [None, {}, {"diff_ids": "abc"}, {"diff_ids": []}, {"diff_ids": ["x", "y", "z"]}],
)
def test_a_configuration_has_to_name_each_layer(
    images: Images, authority: str, registry: Registry, rootfs: object
) -> None:
    put_config(registry, {"rootfs": rootfs})
    with pytest.raises(ImageMalformed):
        images.resolve(Reference.parse(f"{authority}/bad:1"))


def test_absent_and_null_fields_are_empty(
    images: Images, authority: str, registry: Registry
) -> None:
    put_config(registry, {"config": {"Entrypoint": None, "Env": None, "User": None}})
    config = images.resolve(Reference.parse(f"{authority}/bad:1")).config
    assert (config.argv, config.env, config.user, config.exposed_ports) == ((), (), "", ())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000]
)
def test_a_manifest_that_is_no_json_is_refused(
    images: Images, authority: str, registry: Registry, body: bytes
) -> None:
    registry.store.manifests["bad", "1"] = (MANIFEST, body)
    with pytest.raises(ImageMalformed):
        images.resolve(Reference.parse(f"{authority}/bad:1"))


def test_a_manifest_said_to_be_another_kind_than_it_says_itself_is_refused(
    images: Images, worker: Reference, registry: Registry
) -> None:
    _, body = registry.store.manifests["worker", "2.1"]
    registry.store.manifests["worker", "2.1"] = (INDEX, body)
    with pytest.raises(ImageMalformed):
        images.resolve(worker)


@pytest.mark.parametrize("path", ["manifests/sha256", "manifests/2.1", "blobs/"])
def test_a_byte_that_changed_on_the_way_is_noticed(
    images: Images, worker: Reference, registry: Registry, path: str
) -> None:
    reference = images.resolve(worker).reference if "sha256" in path else worker
    registry.faults.add(path, "wrong_bytes")
    with pytest.raises(DigestMismatch):
        images.resolve(reference)


def test_a_tenants_own_limit_on_size_holds(images: Images, worker: Reference) -> None:
    size = images.resolve(worker).size
    images.resolve(worker, limits=Limits(pulled_bytes=size))
    with pytest.raises(TooLarge):
        images.resolve(worker, limits=Limits(pulled_bytes=size - 1))


def manifest_of(registry: Registry, name: str) -> dict[str, Any]:
    _, body = registry.store.manifests[name, "latest"]
    manifest: dict[str, Any] = json.loads(body)
    return manifest


def put_config(registry: Registry, changes: dict[str, Any]) -> None:
    """An image "bad:1", like "worker" but for fields of its configuration."""
    manifest = manifest_of(registry, "worker")
    config = json.loads(registry.store.blobs[manifest["config"]["digest"]])
    data = as_json({**config, **changes})
    manifest["config"] = {
        "mediaType": CONFIG,
        "digest": registry.store.add_blob(data),
        "size": len(data),
    }
    registry.store.add_manifest("bad", manifest, tags=["1"])


def for_amd64(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "platform": {"os": "linux", "architecture": "amd64"}}
