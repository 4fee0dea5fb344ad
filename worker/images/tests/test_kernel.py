"""Root file systems as others read them: Linux itself, and the programs of erofs-utils."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from worker.images.tests.crafting import build, folder, hard, link, member, tar
from worker.images.tests.reading import Found, files, root_of, tree_on
from worker.images.tests.test_layers_of_all_sorts import SPARSE_LAYERS, pax_1_0
from worker.images.tests.test_root_disk import EDGES, LAYER

needs_tools = pytest.mark.skipif(
    not shutil.which("fsck.erofs") or os.geteuid() != 0,
    reason="erofs-utils is not installed (apt-get install erofs-utils), or this is not root, who may extract owners",
)


def can_mount() -> bool:
    kinds = Path("/proc/filesystems")
    return os.geteuid() == 0 and kinds.exists() and "\terofs\n" in kinds.read_text()


needs_mount = pytest.mark.skipif(
    not can_mount(), reason="this kernel has no EROFS, or this is not root, who may mount"
)

MANY = tar(
    *[member(f"many/{'n' * (number % 200)}{number}", data=b"x" * number) for number in range(3000)],
    *[member(f"edge/{size}", data=os.urandom(size)) for size in EDGES],
    *[link(f"link/{size}", ("y" * 99 + "/") * 40 + "z" * size) for size in (1, 20, 31, 32, 95)],
    *[hard(f"hard/{number}", "many/n1") for number in range(5)],
    member("attributes", data=b"!", pax_headers={"SCHILY.xattr.user.long": "v" * 9000}),
    member("two", data=b"?" * 5000, pax_headers={"SCHILY.xattr.user.a": "1"}),
    folder("empty", mode=0o1777, mtime=1_600_000_000),
)
SPARSE = pax_1_0("lastlog", [(5, 3), (10**9, 4), (3 * 10**9 - 7, 7)], 3 * 10**9, b"abcdefg1234567")


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return build(tmp_path, LAYER, MANY, *SPARSE_LAYERS)[1]


def plain(found: dict[bytes, Found]) -> dict[bytes, Found]:
    """Inodes as which names share them: other readers number them their own way."""
    first: dict[int, int] = {}
    return {
        path: replace(one, inode=first.setdefault(one.inode, len(first)))
        for path, one in sorted(found.items())
    }


@contextmanager
def mounted(root: bytes, folder: Path) -> Iterator[Path]:
    image, where = folder / "root.erofs", folder / "mounted"
    image.write_bytes(root)
    where.mkdir()
    subprocess.run(
        ["mount", "-t", "erofs", "-o", "loop,ro", str(image), str(where)],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True, timeout=30)


@needs_mount
def test_linux_mounts_it_and_reads_what_we_read(disk: bytes, tmp_path: Path) -> None:
    with mounted(root_of(disk), tmp_path) as where:
        assert plain(tree_on(where)) == plain(files(disk))


@needs_mount
def test_linux_finds_every_name_by_looking_it_up(disk: bytes, tmp_path: Path) -> None:
    with mounted(root_of(disk), tmp_path) as where:
        for path in files(disk):
            os.lstat(os.path.join(os.fsencode(where), path))  # noqa: PTH118 - names that are no text
        with pytest.raises(FileNotFoundError):
            (where / "many/none").lstat()


@needs_mount
def test_linux_reads_a_sparse_file_of_gigabytes_that_takes_no_room(tmp_path: Path) -> None:
    _, disk = build(tmp_path, SPARSE)
    assert len(disk) < 4 * 2**20
    with mounted(root_of(disk), tmp_path) as where:
        path = where / "lastlog"
        assert path.stat().st_size == 3 * 10**9
        with path.open("rb") as file:
            for at, wanted in [(0, b"\0" * 5 + b"abc\0"), (10**9 - 1, b"\0defg\0")]:
                file.seek(at)
                assert file.read(len(wanted)) == wanted
            file.seek(3 * 10**9 - 8)
            assert file.read() == b"\x001234567"


@needs_mount
def test_linux_puts_a_writable_layer_over_it(disk: bytes, tmp_path: Path) -> None:
    with mounted(root_of(disk), tmp_path) as where:
        for name in ("scratch", "merged"):
            (tmp_path / name).mkdir()
        scratch, merged = tmp_path / "scratch", tmp_path / "merged"
        subprocess.run(["mount", "-t", "tmpfs", "none", str(scratch)], check=True, timeout=30)
        try:
            for name in ("upper", "work"):
                (scratch / name).mkdir()
            options = f"lowerdir={where},upperdir={scratch}/upper,workdir={scratch}/work"
            subprocess.run(
                ["mount", "-t", "overlay", "-o", options, "none", str(merged)],
                check=True, timeout=30,
            )  # fmt: skip
            try:
                (merged / "big").write_bytes(b"changed")
                (merged / "etc/passwd").unlink()
                assert (merged / "big").read_bytes() == b"changed"
                assert (merged / "etc/shadow").read_bytes() == b"root\n"
            finally:
                subprocess.run(["umount", str(merged)], check=True, timeout=30)
        finally:
            subprocess.run(["umount", str(scratch)], check=True, timeout=30)


@needs_tools
def test_fsck_finds_no_fault(disk: bytes, tmp_path: Path) -> None:
    image = tmp_path / "root.erofs"
    image.write_bytes(root_of(disk))
    told = subprocess.run(
        ["fsck.erofs", "--extract", str(image)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


@needs_tools
def test_fsck_extracts_what_we_read(tmp_path: Path) -> None:
    """Files of every kind; fsck.erofs 1.5 restores neither attributes nor hard links."""
    _, disk = build(tmp_path, MANY, *SPARSE_LAYERS)
    image, where = tmp_path / "root.erofs", tmp_path / "extracted"
    image.write_bytes(root_of(disk))
    subprocess.run(
        ["fsck.erofs", f"--extract={where}", "--preserve", str(image)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    theirs, ours = tree_on(where), files(disk)
    assert theirs.keys() == ours.keys()
    for path, one in ours.items():
        told = theirs[path]
        assert (told.mode, told.uid, told.gid, told.content) == (
            one.mode,
            one.uid,
            one.gid,
            one.content,
        )
