"""Images from folders of plain files: same files, same bytes.

`images/NAME/image.json` says tags, architectures and the configuration; `images/NAME/layers/*` are the
layers, by the order of their names. Files named `.wh.*` in them are whiteouts, as in any layer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

IMAGES: Final = Path(__file__).parent / "images"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_CREATED: Final = "2024-01-01T00:00:00Z"


@dataclass
class Store:
    """What a registry has: bytes by digest, and names for manifests."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """(repository, tag or digest) to (media type, bytes)."""

    def add_blob(self, data: bytes) -> str:
        """Its digest."""
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(
        self, repository: str, document: dict[str, Any], *, tags: list[str] | None = None
    ) -> dict[str, Any]:
        """Under its digest and `tags`; a descriptor of it."""
        data, media_type = as_json(document), str(document["mediaType"])
        digest = digest_of(data)
        for name in [digest, *(tags or [])]:
            self.manifests[repository, name] = (media_type, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_layout(self, repository: str, layout: Path, *, tag: str) -> None:
        """The one image of an OCI layout (image-layout.md), under `tag`."""
        index = json.loads((layout / "index.json").read_bytes())
        (found,) = index["manifests"]
        for blob in (layout / "blobs").glob("*/*"):
            self.add_blob(blob.read_bytes())
        manifest = self.blobs[found["digest"]]
        for name in (found["digest"], tag):
            self.manifests[repository, name] = (found["mediaType"], manifest)

    def tags(self, repository: str) -> list[str]:
        return sorted(
            name for owner, name in self.manifests if owner == repository and ":" not in name
        )

    def repositories(self) -> list[str]:
        return sorted({owner for owner, _ in self.manifests})


@dataclass(frozen=True)
class LayerFile:
    """A layer as it is served: what it is packed into, and its archive."""

    media_type: str
    blob: bytes
    archive: bytes

    @classmethod
    def gzipped(cls, archive: bytes) -> LayerFile:
        return cls(f"{LAYER}+gzip", gzip.compress(archive, mtime=0), archive)

    @classmethod
    def plain(cls, archive: bytes) -> LayerFile:
        return cls(LAYER, archive, archive)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def demonstration() -> Store:
    """The images of the folder `images`."""
    store = Store()
    for folder in sorted(IMAGES.iterdir()):
        recipe = json.loads((folder / "image.json").read_text(encoding="utf-8"))
        layers = [
            LayerFile.gzipped(archive_of(layer)) for layer in sorted((folder / "layers").iterdir())
        ]
        add_image(store, folder.name, layers, **recipe)
    return store


def add_image(
    store: Store,
    repository: str,
    layers: list[LayerFile],
    *,
    config: dict[str, Any],
    tags: list[str],
    architectures: list[str],
) -> str:
    """The digest that the tags name: of an index when there are several architectures."""
    manifests = [_manifest(store, layers, config, one) for one in architectures]
    if len(manifests) == 1:
        return str(store.add_manifest(repository, manifests[0], tags=tags)["digest"])
    entries = [
        {
            **store.add_manifest(repository, manifest),
            "platform": {"os": "linux", "architecture": one},
        }
        for manifest, one in zip(manifests, architectures, strict=True)
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return str(store.add_manifest(repository, index, tags=tags)["digest"])


def _manifest(
    store: Store, layers: list[LayerFile], config: dict[str, Any], architecture: str
) -> dict[str, Any]:
    configuration = as_json(
        {
            "created": _CREATED,
            "os": "linux",
            "architecture": architecture,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(one.archive) for one in layers]},
        }
    )
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(store, CONFIG, configuration),
        "layers": [_descriptor(store, one.media_type, one.blob) for one in layers],
    }


def _descriptor(store: Store, media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": store.add_blob(data), "size": len(data)}


def archive_of(folder: Path) -> bytes:
    """A tar archive of the files in `folder`: sorted, root's, of no time; executable or not is kept."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
                continue
            data = path.read_bytes()
            member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
