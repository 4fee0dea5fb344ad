"""What is said of an image: immutable records, the same for every registry and every builder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Self

from worker.images.reference import Reference

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Credentials:
    """For one registry. Never printed."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Platform:
    """In the words of the OCI image index: `os`, `architecture`, `variant` (empty: any)."""

    architecture: str = "amd64"
    os: str = "linux"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Some bytes at the registry: their digest ("sha256:…") and their size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the registry keeps it, and the digest of the tar archive inside."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the image wants to be run (OCI image configuration, `config`). Absent fields are empty."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """"NAME=value", in the image's order."""
    working_dir: str = ""
    user: str = ""
    """"user", "uid", "user:group" or "uid:gid", as written."""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    """"80/tcp", sorted."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What runs when nobody says otherwise."""
        return self.entrypoint + self.cmd


@dataclass(frozen=True, slots=True)
class Resolved:
    """An image that cannot change any more: every byte of it is named by digest."""

    reference: Reference
    """Pinned to `digest`: resolving it again gives the same."""
    digest: str
    """Of the manifest for the platform that was asked for."""
    config: ImageConfig
    layers: tuple[Layer, ...]
    """From the lowest to the uppermost."""

    @property
    def size(self) -> int:
        """Bytes to pull."""
        return sum(layer.blob.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Limits:
    """For one image. Past any of them it is refused as `too_large`; past `duration`, given up for now."""

    layers: int = 128
    pulled_bytes: int = 8 * GIB
    """All layers as the registry keeps them."""
    unpacked_bytes: int = 32 * GIB
    """All layers' tar archives."""
    ratio: int = 200
    """A layer's archive may be so many times its compressed size, past the first 16 MiB."""
    entries: int = 1_000_000
    """Archive members of all layers; 128 bytes of name, link target and attributes are one more."""
    depth: int = 128
    """Folders in folders."""
    disk_bytes: int = 32 * GIB
    duration: timedelta = timedelta(minutes=20)

    @classmethod
    def of(cls, amounts: Mapping[str, int]) -> Self:
        """As the setting IMAGE_LIMITS names them: bytes, entries, ratio, depth, minutes; each may be absent."""
        given: dict[str, Any] = {
            name: amounts[name] for name in ("entries", "ratio", "depth") if name in amounts
        }
        if "bytes" in amounts:
            for name in ("pulled_bytes", "unpacked_bytes", "disk_bytes"):
                given[name] = amounts["bytes"]
        if "minutes" in amounts:
            given["duration"] = timedelta(minutes=amounts["minutes"])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class RootDisk:
    """A root disk that a builder wrote."""

    size_bytes: int
    """A multiple of two MiB."""
    builder: str
    """Format and version, e.g. "erofs-2". Same image and builder: same bytes."""
