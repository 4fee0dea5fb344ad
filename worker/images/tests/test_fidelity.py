"""What is on our disk is what `umoci unpack` (Debian) makes of the same image, or the specification says why not."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard

from worker.images.tests.crafting import (
    Shelf,
    build,
    build_of,
    folder,
    hard,
    link,
    member,
    opaque,
    sha256,
    tar,
    whiteout,
)
from worker.images.tests.reading import Found, files, tree_on
from worker.images.tests.test_layers_of_all_sorts import (
    bare,
    extended,
    old_gnu,
    pax_0_0,
    pax_0_1,
    pax_1_0,
    record,
    summed,
)

pytestmark = pytest.mark.skipif(
    not shutil.which("umoci") or os.geteuid() != 0,
    reason="umoci is not installed (apt-get install umoci), or this is not root, who unpacks owners",
)

LONG = "/".join(["d" * 60] * 5) + "/f"
CAPABILITY = "\1\0\0\2" + "\0\4\0\0" + "\0" * 12
ACL = "\2\0\0\0" + "\1\0\6\0\xff\xff\xff\xff"
T = 1_600_000_000


def gnu(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ustar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


LOWER = tar(
    folder("./", mode=0o755, mtime=T),
    folder("a", mtime=T),
    member("a/one", data=b"1", mtime=T),
    folder("a/b", mtime=T),
    member("a/b/two", data=b"2", mtime=T),
    member("c", data=b"3", mtime=T),
)


def v7() -> bytes:
    header = bytearray(bare("old"))
    header[257:512] = bytes(255)
    return summed(header)


IMAGES: dict[str, Sequence[bytes]] = {
    "one file": [tar(member("f", data=b"x", mtime=T))],
    "an empty file": [tar(member("f", mtime=T))],
    "a file of many blocks": [tar(member("f", data=bytes(range(256)) * 1000, mtime=T))],
    "owners": [tar(member("f", uid=1000, gid=2000), folder("d", uid=65534, gid=12))],
    "large owners": [tar(member("f", uid=2**31 + 5, gid=3_000_000))],
    "modes": [tar(*[member(f"f{mode:o}", mode=mode) for mode in (0, 0o111, 0o444, 0o640, 0o777)])],
    "setuid, setgid, sticky": [
        tar(member("su", mode=0o4755), member("sg", mode=0o2755), folder("t", mode=0o1777))
    ],
    "setgid folders": [tar(folder("g", mode=0o2775, gid=50), member("g/f", gid=50))],
    "an unreadable folder": [tar(folder("d", mode=0), member("d/f", data=b"x"))],
    "times": [
        tar(*[member(f"f{when}", mtime=when) for when in (0, 1, T, 2**31 - 1, 2**31, 2**33)])
    ],
    "a time with a fraction": [extended(record("mtime", "1600000000.75")) + bare("f")],
    "a time before 1970": [extended(record("mtime", "-86400")) + bare("f")],
    "folders' own times": [
        tar(folder("d", mtime=T), member("d/f", mtime=5), folder("d/e", mtime=6))
    ],
    "symbolic links": [tar(link("l", "f"), link("m", "/abs/olute"), link("n", "../../up"))],
    "a long symbolic link": [tar(link("l", ("x" * 200 + "/") * 15 + "y"))],
    "a dangling link and a ring": [tar(link("l", "none"), link("a", "b"), link("b", "a"))],
    "hard links": [tar(member("f", data=b"x"), hard("g", "f"), folder("d"), hard("d/h", "f"))],
    "a hard link to a symbolic link": [tar(link("l", "none"), hard("h", "l"))],
    "a hard link into a lower layer": [LOWER, tar(hard("h", "c"))],
    "a hard link whose target goes": [LOWER, tar(hard("h", "c")), tar(whiteout("c"))],
    "a hard link that is written anew": [
        tar(member("f", data=b"x"), hard("g", "f")),
        tar(member("f", data=b"new")),
    ],
    "devices": [
        tar(
            folder("dev"),
            member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660, gid=6),
            member("dev/far", tarfile.CHRTYPE, devmajor=4095, devminor=1_048_575),
        )
    ],
    "pipes": [tar(member("p", tarfile.FIFOTYPE, mode=0o620))],
    "attributes": [
        tar(member("f", pax_headers={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": ""}))
    ],
    "attributes of a folder": [tar(folder("d", pax_headers={"SCHILY.xattr.user.a": "d"}))],
    "attributes that are no text": [
        tar(
            member("f", pax_headers={"SCHILY.xattr.user.x": "\udcff\udc00".replace("\udc00", "\0")})
        )
    ],
    "capabilities": [
        tar(
            member("ping", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
        )
    ],
    "attributes that an upper layer takes away": [
        tar(member("f", pax_headers={"SCHILY.xattr.user.a": "1"})),
        tar(member("f")),
    ],
    "long names in pax": [tar(member(LONG, data=b"x"))],
    "long names in gnu": [gnu(member(LONG, data=b"x"), link("l", LONG))],
    "long names in ustar": [ustar(member("p" * 100 + "/" + "n" * 90, data=b"x"))],
    "names of 255 bytes": [tar(member("n" * 255, data=b"x"), folder("m" * 255))],
    "names that are no text": [tar(member("\udcff\udcfe", data=b"x"), folder("\udce9"))],
    "names with blanks and signs": [
        tar(
            *[
                member(name)
                for name in (" ", "a b", "tab\t", "line\nbreak", "*", "~", "\\", "ü", "日本")
            ]
        )
    ],
    "names like dots": [tar(member("..."), member(".hidden"), member("..a"), member("a.."))],
    "names of a v7 archive": [v7()],
    "paths with dots and slashes": [
        tar(member("./a"), member(".//b"), member("/c"), folder("./d/"))
    ],
    "deep folders": [tar(member("/".join(["d"] * 100) + "/f", data=b"deep"))],
    "folders nobody named": [tar(member("x/y/z", data=b"1"))],
    "a folder named after its file": [
        tar(member("d/f", mtime=T), folder("d", mode=0o700, mtime=5))
    ],
    "an upper file": [LOWER, tar(member("c", data=b"new", mode=0o600, mtime=7))],
    "an upper folder changes the mode": [LOWER, tar(folder("a", mode=0o700, uid=9, mtime=8))],
    "a file over a folder": [LOWER, tar(member("a", data=b"file"))],
    "a folder over a file": [LOWER, tar(folder("c"), member("c/in"))],
    "a link over a folder": [LOWER, tar(link("a", "c"))],
    "a whiteout of a file": [LOWER, tar(whiteout("a/one"))],
    "a whiteout of a folder": [LOWER, tar(whiteout("a"))],
    "a whiteout of nothing": [LOWER, tar(folder("a"), whiteout("a/none"))],
    "a whiteout, then the same anew": [LOWER, tar(whiteout("c")), tar(member("c", data=b"again"))],
    "a whiteout beside its own file": [LOWER, tar(folder("a"), whiteout("a/b"), member("a/new"))],
    "an opaque folder": [LOWER, tar(folder("a"), opaque("a"), member("a/new", data=b"n"))],
    "an opaque folder below": [
        LOWER,
        tar(folder("a"), folder("a/b"), opaque("a/b"), member("a/b/n")),
    ],
    "files behind a link": [
        tar(folder("usr"), folder("usr/lib"), link("lib", "usr/lib")),
        tar(member("lib/new", data=b"n")),
    ],
    "files behind an absolute link": [
        tar(folder("real"), link("l", "/real")),
        tar(member("l/new", data=b"n")),
    ],
    "the root's own entry": [tar(folder("./", mode=0o711, uid=3, mtime=T), member("f"))],
    "empty layers between": [LOWER, b"", bytes(1024), bytes(10240), tar(member("top"))],
    "the same layer twice": [LOWER, LOWER],
    "sparse, pax 0.0": [pax_0_0("f", [(5, 3), (9000, 4)], 20_000, b"abcdefg")],
    "sparse, pax 0.1": [pax_0_1("f", [(5, 3), (9000, 4)], 20_000, b"abcdefg")],
    "sparse, pax 1.0": [pax_1_0("f", [(5, 3), (9000, 4)], 20_000, b"abcdefg")],
    "sparse, large": [pax_1_0("f", [(5, 3), (3_000_000, 4)], 5_000_000, b"abcdefg")],
    "a thousand files": [tar(*[member(f"d/{n}", data=b"x" * n) for n in range(1000)])],
    "numbers in base 256": [gnu(member("f", uid=2**25, gid=2**26, mtime=2**33 + 1))],
}


REFUSED_BY_UMOCI = {
    # OCI image specification, layer.md: "Sparse files SHOULD NOT be used because they lack consistent
    # support across tar implementations." Not MUST NOT: Docker and containerd read them, and so do we.
    "sparse, old gnu": old_gnu("f", [(5, 3), (9000, 4)], 20_000, b"abcdefg"),
    # The same page leaves members to the tar format; POSIX.1-2008, pax, typeflag 7: where there are no
    # contiguous files, it is to be read as a regular file.
    "a contiguous file": tar(member("f", tarfile.CONTTYPE, data=b"x")),
}


def named(archives: Sequence[bytes]) -> set[bytes]:
    """Names that a layer says something of; of the time of others the specification says nothing."""
    said: set[bytes] = set()
    for archive in archives:
        if not archive:
            continue
        with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as reader:
            for one in reader:
                said.add(os.fsencode(os.path.normpath("/" + one.name)[1:]))
    return said


def layout_of(where: Path, archives: Sequence[bytes], packed: Sequence[bytes]) -> None:
    """An OCI image layout with one image, "it"."""
    blobs = where / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": kind, "digest": sha256(data), "size": len(data)}

    oci = "application/vnd.oci.image"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in archives]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), f"{oci}.config.v1+json"),
        "layers": [put(one, f"{oci}.layer.v1.tar+gzip") for one in packed],
    }
    entry = put(json.dumps(manifest).encode(), f"{oci}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (where / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def unpacked_by_umoci(folder_: Path, archives: Sequence[bytes]) -> dict[bytes, Found]:
    layout_of(folder_ / "layout", archives, [gzip.compress(one, mtime=0) for one in archives])
    told = umoci(folder_)
    assert told.returncode == 0, told.stderr
    return tree_on(folder_ / "bundle" / "rootfs")


def umoci(where: Path) -> subprocess.CompletedProcess[str]:
    command = ["umoci", "unpack", "--image", f"{where}/layout:it", f"{where}/bundle"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def comparable(found: dict[bytes, Found], said: set[bytes]) -> dict[bytes, tuple[object, ...]]:
    groups: dict[int, list[bytes]] = {}
    for path, one in found.items():
        groups.setdefault(one.inode, []).append(path)
    return {
        path: (
            oct(one.mode), one.uid, one.gid, one.device, one.xattrs,
            one.mtime if path in said else "not said",
            len(one.content), hashlib.sha256(one.content).hexdigest(),
            sorted(groups[one.inode]),
        )
        for path, one in found.items()
    }  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_files_are_those_that_umoci_unpacks(name: str, tmp_path: Path) -> None:
    archives = IMAGES[name]
    shelf = Shelf()
    spool = tmp_path / "spool"
    spool.mkdir()
    _, disk = build_of(spool, shelf, [shelf.put(archive) for archive in archives])
    said = named(archives)
    theirs = comparable(unpacked_by_umoci(tmp_path, archives), said)
    ours = comparable(files(disk), said)
    assert ours == theirs


@pytest.mark.parametrize("name", REFUSED_BY_UMOCI)
def test_what_umoci_refuses_is_read_where_the_specification_allows_it(
    name: str, tmp_path: Path
) -> None:
    archive = REFUSED_BY_UMOCI[name]
    layout_of(tmp_path / "layout", [archive], [gzip.compress(archive)])
    assert "unknown typeflag" in umoci(tmp_path).stderr
    found = files(build(tmp_path, archive)[1])[b"f"]
    assert found.content in (
        b"x",
        (bytes(5) + b"abc").ljust(9000, b"\0") + b"defg".ljust(11_000, b"\0"),
    )


@pytest.mark.parametrize("pack", [lambda one: one, gzip.compress, zstandard.compress])
def test_how_layers_are_packed_makes_no_difference_to_the_disk(
    pack: object, tmp_path: Path
) -> None:
    assert callable(pack)
    shelf = Shelf()
    archives = [LOWER, tar(whiteout("c")), IMAGES["sparse, large"][0]]
    packed = build_of(tmp_path, shelf, [shelf.put(one, pack(one)) for one in archives])
    assert packed == build_of(tmp_path, shelf, [shelf.put(one) for one in archives])
