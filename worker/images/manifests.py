"""Reading manifests, indexes and configurations, as OCI and as Docker write them. Pure."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from worker.images.errors import (
    ImageMalformed,
    LayerForeign,
    NotAnImage,
    NotForThisArchitecture,
    TooLarge,
)
from worker.images.records import Descriptor, ImageConfig, Layer, Limits, Platform
from worker.images.reference import is_digest

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
INDEXES: Final = frozenset(
    {f"{_OCI}.index.v1+json", f"{_DOCKER}.distribution.manifest.list.v2+json"}
)
MANIFESTS: Final = frozenset(
    {f"{_OCI}.manifest.v1+json", f"{_DOCKER}.distribution.manifest.v2+json"}
)
ACCEPT: Final = ", ".join(sorted(INDEXES | MANIFESTS))
_CONFIGS: Final = frozenset({f"{_OCI}.config.v1+json", f"{_DOCKER}.container.image.v1+json"})
_LAYERS: Final = frozenset(
    {
        f"{_OCI}.layer.v1.tar",
        f"{_OCI}.layer.v1.tar+gzip",
        f"{_OCI}.layer.v1.tar+zstd",
        f"{_DOCKER}.image.rootfs.diff.tar",
        f"{_DOCKER}.image.rootfs.diff.tar.gzip",
        f"{_DOCKER}.image.rootfs.diff.tar.zstd",
    }
)
_FOREIGN: Final = re.compile(r".*(\.nondistributable\.|\.foreign\.)")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
_MOST_ARGUMENTS: Final = 4096


def read_json(body: bytes) -> dict[str, Any]:
    """An object. Raises ImageMalformed."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ImageMalformed from error
    if not isinstance(value, dict):
        raise ImageMalformed
    return value


def kind_of(document: dict[str, Any], content_type: str) -> str:
    """The media type of a manifest or index. Raises NotAnImage or ImageMalformed.

    The registry says it in a header, the document may say it too. A document that reads as both, or that
    contradicts the header, is refused: two readers would see two images (CVE-2021-41190).
    """
    told = content_type.partition(";")[0].strip().lower()
    own = document.get("mediaType", told)
    if told in INDEXES | MANIFESTS and own != told:
        raise ImageMalformed("The image's description says two things of its own kind.")
    if not isinstance(own, str) or own not in INDEXES | MANIFESTS:
        raise NotAnImage(media_type=str(own)[:200])
    wrong = {"layers", "config"} if own in INDEXES else {"manifests"}
    if wrong & document.keys():
        raise ImageMalformed("The image's description says two things of its own kind.")
    return own


def choose(index: dict[str, Any], platform: Platform) -> Descriptor:
    """The first entry of an index that is for `platform`. Raises NotForThisArchitecture."""
    for entry in _list(index, "manifests", most=1000):
        if _is_for(entry.get("platform"), platform):
            return _descriptor(entry)
    raise NotForThisArchitecture(f"The image is not made for {platform}.")


def _is_for(said: object, platform: Platform) -> bool:
    if not isinstance(said, dict):
        return False
    return (
        said.get("os") == platform.os
        and said.get("architecture") == platform.architecture
        and (not platform.variant or said.get("variant", "") == platform.variant)
    )


def read_manifest(manifest: dict[str, Any], limits: Limits) -> tuple[Descriptor, list[Descriptor]]:
    """Its configuration and its layers, the lowest first.

    Raises NotAnImage, LayerForeign, ImageMalformed, TooLarge.
    """
    config = _descriptor(manifest.get("config"))
    if config.media_type not in _CONFIGS:
        raise NotAnImage(media_type=config.media_type[:200])
    layers = [_layer(one) for one in _list(manifest, "layers", most=limits.layers)]
    pulled = sum(layer.size for layer in layers)
    if pulled > limits.pulled_bytes:
        raise TooLarge(f"The image is larger than the {limits.pulled_bytes} bytes allowed.")
    return config, layers


def _layer(entry: object) -> Descriptor:
    layer = _descriptor(entry)
    if _FOREIGN.match(layer.media_type):
        raise LayerForeign
    if layer.media_type not in _LAYERS:
        raise NotAnImage(
            "The image has a layer of a kind not known here.", media_type=layer.media_type[:200]
        )
    return layer


def _descriptor(entry: object) -> Descriptor:
    if not isinstance(entry, dict):
        raise ImageMalformed
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ImageMalformed
    if not is_digest(digest) or size < 0:
        raise ImageMalformed
    return Descriptor(media_type, digest, size)


def _list(document: dict[str, Any], name: str, *, most: int) -> list[dict[str, Any]]:
    entries = document.get(name)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ImageMalformed
    if len(entries) > most:
        raise TooLarge(f"The image has more than {most} {name}.")
    return entries


def read_config(
    document: dict[str, Any], blobs: Iterable[Descriptor], platform: Platform
) -> tuple[ImageConfig, tuple[Layer, ...]]:
    """How to run it, and its layers with the digests of their archives.

    Raises NotForThisArchitecture, ImageMalformed.
    """
    said = {key: document.get(key, "") for key in ("os", "architecture", "variant")}
    if not _is_for(said, Platform(platform.architecture, platform.os)):
        raise NotForThisArchitecture(f"The image is not made for {platform}.")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    blobs = tuple(blobs)
    if not isinstance(diff_ids, list) or len(diff_ids) != len(blobs):
        raise ImageMalformed("The image's configuration does not name each of its layers.")
    if not all(isinstance(one, str) and is_digest(one) for one in diff_ids):
        raise ImageMalformed
    layers = tuple(map(Layer, blobs, diff_ids))
    return _read_run(document.get("config") or {}), layers


def _read_run(config: object) -> ImageConfig:
    if not isinstance(config, dict):
        raise ImageMalformed
    env = _texts(config, "Env")
    if not all("=" in one[1:] for one in env):
        raise ImageMalformed("The image's environment is malformed.")
    return ImageConfig(
        entrypoint=_texts(config, "Entrypoint"),
        cmd=_texts(config, "Cmd"),
        env=env,
        working_dir=_text(config, "WorkingDir"),
        user=_text(config, "User"),
        stop_signal=_text(config, "StopSignal"),
        exposed_ports=_ports(config),
    )


def _text(config: dict[str, Any], name: str) -> str:
    value = config.get(name)
    if value is None:
        return ""
    return _clean(value)


def _texts(config: dict[str, Any], name: str) -> tuple[str, ...]:
    values = config.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) > _MOST_ARGUMENTS:
        raise ImageMalformed
    return tuple(_clean(value) for value in values)


def _clean(value: object) -> str:
    """Text that a kernel and a database can take: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str) or "\0" in value:
        raise ImageMalformed
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ImageMalformed from error
    return value


def _ports(config: dict[str, Any]) -> tuple[str, ...]:
    ports = config.get("ExposedPorts")
    if ports is None:
        return ()
    if not isinstance(ports, dict) or len(ports) > _MOST_ARGUMENTS:
        raise ImageMalformed
    return tuple(sorted({_port(text) for text in ports}))


def _port(text: str) -> str:
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[1]) < 65536:
        raise ImageMalformed("The image exposes something that is no port.")
    return f"{int(match[1])}/{match[2] or 'tcp'}"
