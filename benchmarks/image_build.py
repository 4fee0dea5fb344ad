"""From an image's layers to a root disk: Bulkhead's builder against Debian's own tools, on tmpfs.

    python -m benchmarks.image_build [--short] [--entries N] [--mib N] [--pairs N]

The image is made of this machine's own files (/usr: some 46,500 entries and 340 MB, in three gzip layers, as
an OCI layout). In turns, each in processes of its own:

    ours      pull from the layout, verified; unpack, verify, merge, write the disk
    umoci     `umoci unpack`, then of what that unpacked `mkfs.ext4 -d` as it comes and without journal and
              checksums ("lean", its fastest), and `mksquashfs` as it comes (gzip)
    gunzip    the layers to /dev/null: the floor

Ratios are theirs ÷ ours in wall time, umoci's time counted to both file systems. The disk that we made is checked
by fsck.erofs. A machine without the tools says so and measures nothing.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from benchmarks.report import ROOT, report
from worker.images.builders import ErofsDisk
from worker.images.disk import root_at
from worker.images.records import Descriptor, ImageConfig, Layer, Limits, Resolved
from worker.images.reference import Reference
from worker.images.spool import Spool

TOOLS = ("umoci", "mkfs.ext4", "mksquashfs", "gunzip", "tar", "fsck.erofs")
SOURCES = ("/usr/share", "/usr/lib/python3", "/usr/bin", "/usr/include", "/usr/lib")
LAYERS = 3
LARGEST_FILE = 400_000
GOAL = 10.0
_OCI = "application/vnd.oci.image"


class Layout:
    """An OCI image layout on disk as a registry: every byte is held against its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        return self._folder / "blobs" / digest.replace(":", "/")

    def _json(self, digest: str) -> Mapping[str, object]:
        found: Mapping[str, object] = json.loads(self.path(digest).read_bytes())
        return found

    def image(self) -> Resolved:
        index = json.loads((self._folder / "index.json").read_bytes())
        digest = index["manifests"][0]["digest"]
        manifest = json.loads(self.path(digest).read_bytes())
        config = json.loads(self.path(manifest["config"]["digest"]).read_bytes())
        layers = tuple(
            Layer(Descriptor(one["mediaType"], one["digest"], one["size"]), diff_id)
            for one, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        )
        return Resolved(Reference("bench", "it", None, digest), digest, ImageConfig(), layers)

    def pull(self, blob: Descriptor, into: BinaryIO) -> None:
        check = hashlib.sha256()
        with self.path(blob.digest).open("rb") as file:
            while chunk := file.read(2**20):
                check.update(chunk)
                into.write(chunk)
        if f"sha256:{check.hexdigest()}" != blob.digest:
            raise ValueError(blob.digest)


# --------------------------------------------------------------------------------------------- the image


def make_image(folder: Path, entries: int, size: int) -> Mapping[str, int]:
    """Write the layout; what is in it."""
    chosen = list(_choose(entries, size))
    share = -(-len(chosen) // LAYERS)
    archives = []
    for begin in range(0, len(chosen), share):
        names = b"\0".join(chosen[begin : begin + share])
        archive = subprocess.run(
            ["tar", "-C", "/", "--no-recursion", "--null", "-T", "-", "-cf", "-"],
            input=names, stdout=subprocess.PIPE, timeout=300, check=True,
        ).stdout  # fmt: skip
        archives.append(archive)
    put_image(folder, archives)
    packed_bytes = sum(path.stat().st_size for path in (folder / "blobs/sha256").iterdir())
    return {
        "entries": len(chosen),
        "unpacked_bytes": sum(len(archive) for archive in archives),
        "packed_bytes": packed_bytes,
    }


def put_image(folder: Path, archives: Sequence[bytes]) -> None:
    """Write an OCI layout of these layers."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives],
        },
    }
    layers = [
        _put(blobs, gzip.compress(archive, 6, mtime=0), f"{_OCI}.layer.v1.tar+gzip")
        for archive in archives
    ]
    manifest = {
        "schemaVersion": 2,
        "config": _put(blobs, json.dumps(config).encode(), f"{_OCI}.config.v1+json"),
        "layers": layers,
    }
    entry = _put(blobs, json.dumps(manifest).encode(), f"{_OCI}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _put(blobs: Path, data: bytes, kind: str) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _choose(entries: int, size: int) -> Iterator[bytes]:
    """Names below "/", folders first, in order, until there are so many or so many bytes."""
    for source in SOURCES:
        for folder, folders, files in os.walk(source):
            folders.sort()
            for name in (folder, *(f"{folder}/{file}" for file in sorted(files))):
                told = os.lstat(name)
                if told.st_size > LARGEST_FILE:
                    continue  # else few large files would use up the bytes
                entries, size = entries - 1, size - told.st_size
                yield os.fsencode(name.lstrip("/"))
                if entries <= 0 or size <= 0:
                    return


# -------------------------------------------------------------------------------------------- the builders


def timed(*command: str) -> float:
    """Seconds that a program takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run(
        command, timeout=600, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def built(layout: Path, target: Path) -> tuple[float, float, int]:
    """Ours, in a process of its own: (seconds of the build, of the whole process, bytes of memory at most).

    A worker lives long: what Python needs to start and to import is told apart.
    """
    command = [sys.executable, "-m", "benchmarks.image_build", "--build", str(layout), str(target)]
    began = time.perf_counter()
    told = subprocess.run(
        command, cwd=ROOT, timeout=600, check=True, capture_output=True, text=True
    ).stdout.split()
    return float(told[0]), time.perf_counter() - began, int(told[1])


def build(layout: Path, target: Path) -> None:
    """Ours, in this process; prints the seconds it took, and the most memory this process had."""
    source = Layout(layout)
    began = time.perf_counter()
    with target.open("w+b") as file:
        ErofsDisk().build(source.image(), source, file, Spool(target.parent), Limits())
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(seconds, int(peak) * 1024)


def check(disk: Path, folder: Path) -> None:
    """Raises CalledProcessError unless fsck.erofs reads all of it."""
    root = folder / "root.erofs"
    with disk.open("rb") as source, root.open("wb") as target:
        source.seek(root_at(None))
        shutil.copyfileobj(source, target, 2**20)
    command = ["fsck.erofs", "--extract", str(root)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    root.unlink()


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Seconds of each, in turns."""
    layout, bundle = folder / "layout", folder / "bundle"
    ours, ext4, squashfs = folder / "ours.img", folder / "ext4.img", folder / "squashfs.img"
    blobs = sorted(str(path) for path in (layout / "blobs/sha256").iterdir())
    packed = [path for path in blobs if Path(path).read_bytes()[:2] == b"\x1f\x8b"]
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    built(layout, ours)  # nobody's turn: reads everybody's files once
    timed("gunzip", "--stdout", "--force", *packed)
    peak = 0
    for _ in range(pairs):
        seconds, whole, most = built(layout, ours)
        note("ours", seconds)
        note("with Python", whole)
        peak = max(peak, most)
        note("gunzip", timed("gunzip", "--stdout", "--force", *packed))
        note("umoci", timed("umoci", "unpack", "--image", f"{layout}:it", str(bundle)))
        sizes_on_ext4 = [path.lstat().st_size + 4096 for path in bundle.rglob("*")]
        room = sum(sizes_on_ext4) * 5 // 4 + 2**26
        rootfs = str(bundle / "rootfs")
        made = ["mkfs.ext4", "-q", "-F", "-N", str(2 * len(sizes_on_ext4)), "-d", rootfs]
        note("ext4", timed(*made, str(ext4), f"{room // 1024}k"))
        ext4.unlink()
        # A root that is only read needs no journal, and without checksums this is three times as fast.
        lean = ["-O", "^has_journal,^metadata_csum"]
        note("lean ext4", timed(*made, *lean, str(ext4), f"{room // 1024}k"))
        quiet = ["-noappend", "-no-progress", "-quiet"]
        note("squashfs", timed("mksquashfs", rootfs, str(squashfs), *quiet))
        shutil.rmtree(bundle)
        sizes = {one.stem: one.stat().st_size for one in (ours, ext4, squashfs)}
        check(ours, folder)
        for one in (ours, ext4, squashfs):
            one.unlink()
    print(f"memory of ours: {peak / 2**20:.0f} MiB at most")
    for name, times in found.items():
        print(
            f"{name:11} {statistics.median(times):7.2f} s  of "
            + " ".join(f"{one:.2f}" for one in times)
            + (f"  disk {sizes[name] / 1e6:.0f} MB" if name in sizes else "")
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of the image, three pairs")
    parser.add_argument("--entries", type=int, default=46_500)
    parser.add_argument("--mib", type=int, default=325)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.build:
        build(*asked.build)
        return 0
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        print(f"nothing measured: missing {', '.join(missing) or 'root, who unpacks owners'}")
        return 0
    part = 10 if asked.short else 1
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        said = make_image(folder / "layout", asked.entries // part, asked.mib * 2**20 // part)
        print(f"image {json.dumps(said)}")
        found = measure(folder, 3 if asked.short else asked.pairs)
    for other in ("ext4", "lean ext4", "squashfs"):
        found[other] = [sum(pair) for pair in zip(found["umoci"], found[other], strict=True)]
    ratios = {
        other: [theirs / ours for theirs, ours in zip(found[other], found["ours"], strict=True)]
        for other in ("ext4", "lean ext4", "squashfs", "gunzip")
    }
    for other, values in ratios.items():
        print(
            f"{other:11} ÷ ours: median {statistics.median(values):.2f}, "
            f"lowest {min(values):.2f}, highest {max(values):.2f}"
        )
    # report() divides value by baseline: speed, the more the better.
    met = report(
        "image_build",
        unit="images/s",
        values=[1 / seconds for seconds in found["ours"]],
        baselines=[1 / seconds for seconds in found["ext4"]],
        goal=GOAL,
        higher_is_better=True,
        more={
            "baseline_is": "umoci unpack && mkfs.ext4 -d",
            "image": said,
            "lean_ext4_ratio": round(statistics.median(ratios["lean ext4"]), 2),
            "squashfs_ratio": round(statistics.median(ratios["squashfs"]), 2),
            "gunzip_ratio": round(statistics.median(ratios["gunzip"]), 2),
        },
    )
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
