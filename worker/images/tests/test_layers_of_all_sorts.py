"""Archives as other programs write them: sparse files of every kind, old and new headers."""

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest

from worker.images.errors import ImageError
from worker.images.tar import members
from worker.images.tests.crafting import build, member, spooled, tar
from worker.images.tests.reading import files

PIECES = [(2, 3), (10, 2)]
SIZE = 20
WANTED = b"\0\0abc\0\0\0\0\0de" + bytes(8)


def pax_0_0(name: str, pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    """GNU tar's first: a pair of records each piece, so a key comes many times."""
    lines = [
        record("GNU.sparse.size", size),
        record("GNU.sparse.numblocks", len(pieces)),
    ]
    for at, length in pieces:
        lines += [record("GNU.sparse.offset", at), record("GNU.sparse.numbytes", length)]
    return extended(b"".join(lines)) + bare(name, data)


def pax_0_1(name: str, pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    numbers = ",".join(f"{at},{length}" for at, length in pieces)
    headers = {
        "GNU.sparse.size": str(size),
        "GNU.sparse.numblocks": str(len(pieces)),
        "GNU.sparse.map": numbers,
        "GNU.sparse.name": name,
    }
    return tar(member("GNUSparseFile.1/x", data=data, pax_headers=headers))


def pax_1_0(name: str, pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    numbers = [len(pieces), *[number for piece in pieces for number in piece]]
    text = "".join(f"{number}\n" for number in numbers).encode()
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(size),
        "GNU.sparse.name": name,
    }
    held = text + bytes(-len(text) % 512) + data
    return tar(member("GNUSparseFile.1/x", data=held, pax_headers=headers))


def old_gnu(name: str, pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    """The header has room for four pieces, each block behind it for 21 more."""
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, len(data)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    packed = [b"%011o\0%011o\0" % piece for piece in pieces]
    header[386:482] = b"".join(packed[:4]).ljust(96, b"\0")
    rest = packed[4:]
    header[482] = bool(rest)
    header[483:495] = b"%011o\0" % size
    behind = b""
    while rest:
        behind += b"".join(rest[:21]).ljust(504, b"\0") + bytes([len(rest) > 21]) + bytes(7)
        rest = rest[21:]
    return summed(header) + behind + data + bytes(-len(data) % 512)


def summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def record(key: str, value: object) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + 1
    while len(f"{length}{text}") != length:
        length += 1
    return f"{length}{text}".encode()


def extended(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("PaxHeader/x")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def bare(name: str, data: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


KINDS = [pax_0_0, pax_0_1, pax_1_0, old_gnu]
SPARSE_LAYERS = [make(f"sparse{n}", PIECES, SIZE, b"abcde") for n, make in enumerate(KINDS)]


@pytest.mark.parametrize("make", KINDS)
def test_sparse_files_are_whole_again(tmp_path: Path, make: object) -> None:
    assert callable(make)
    _, disk = build(tmp_path, make("f", PIECES, SIZE, b"abcde"))
    assert files(disk)[b"f"].content == WANTED


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("count", [0, 4, 5, 25, 26, 200])
def test_sparse_files_have_any_number_of_pieces(tmp_path: Path, make: object, count: int) -> None:
    assert callable(make)
    pieces = [(number * 10_000 + 17, 5000) for number in range(count)]
    data = os.urandom(5000 * count)
    wanted = bytearray(2_100_000)
    for number, (at, length) in enumerate(pieces):
        wanted[at : at + length] = data[number * 5000 :][:5000]
    _, disk = build(tmp_path, make("f", pieces, len(wanted), data))
    assert files(disk)[b"f"].content == bytes(wanted)


def test_gnu_tar_itself_is_understood(tmp_path: Path) -> None:
    """What Python's tarfile writes is not what all write: a header of v7, an owner in base 256, time before 1970."""
    header = bytearray(bare("old"))
    header[257:512] = bytes(255)
    header[108:116] = b"\x80" + (2**31).to_bytes(7, "big")
    header[136:148] = struct.pack(">Bxxxq", 0xFF, -5)[:4].replace(b"\0", b"\xff") + struct.pack(
        ">q", -5
    )
    (found,) = members(spooled(summed(header)))
    assert (found.name, found.uid, found.mtime) == (b"old", 2**31, -5)
    _, disk = build(tmp_path, summed(header))
    assert files(disk)[b"old"].mtime == -5


def test_a_name_of_v7_with_a_slash_at_its_end_is_a_folder(tmp_path: Path) -> None:
    header = bytearray(bare("d/"))
    header[156:157] = b"\0"
    _, disk = build(tmp_path, summed(header))
    assert files(disk)[b"d"].links == 2


def test_a_ustar_prefix_goes_before_the_name_and_gnus_times_do_not() -> None:
    header = bytearray(bare("name"))
    header[345:348] = b"pre"
    assert [one.name for one in members(spooled(summed(header)))] == [b"pre/name"]
    header[257:265] = b"ustar  \0"
    assert [one.name for one in members(spooled(summed(header)))] == [b"name"]


def test_a_sum_of_signed_bytes_is_a_sum_too() -> None:
    header = bytearray(bare("\N{LATIN SMALL LETTER E WITH ACUTE}"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(one - 256 if one > 127 else one for one in header)
    assert len(list(members(spooled(bytes(header))))) == 1


def test_what_is_said_of_all_files_is_true_of_those_that_follow() -> None:
    body = record("uid", 7) + record("path", "never") + record("comment", "x")
    layer = bare("a") + extended(body, tarfile.XGLTYPE) + bare("b") + bare("c")
    assert [(one.name, one.uid) for one in members(spooled(layer))] == [
        (b"a", 0),
        (b"b", 7),
        (b"c", 7),
    ]


@pytest.mark.parametrize("value", ["-1.5", "1700000000.999", "0.0", "-0.0", "5"])
def test_times_are_rounded_down(value: str) -> None:
    (found,) = members(spooled(extended(record("mtime", value)) + bare("f")))
    assert found.mtime == float(value) // 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_reads(form: int) -> None:
    """Two readers, one archive: of everything that tarfile can write."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number, name in enumerate(["a", "d/" * 40 + "f", "é" * 40, "x" * 99, "y" * 100]):
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime, info.mode = number * 511, number, number**9, 0o751
            archive.addfile(info, io.BytesIO(b"z" * info.size))
            target = tarfile.TarInfo(f"link{number}")
            target.type, target.linkname = tarfile.SYMTYPE, name
            archive.addfile(target)
    ours = list(members(spooled(buffer.getvalue())))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        theirs = archive.getmembers()
    assert [os.fsdecode(one.name) for one in ours] == [one.name for one in theirs]
    assert [os.fsdecode(one.target) for one in ours] == [one.linkname for one in theirs]
    for attribute in ("size", "uid", "gid", "mtime"):
        assert [getattr(one, attribute) for one in ours] == [
            getattr(one, attribute) for one in theirs
        ]
    assert [one.offset for one in ours if one.size] == [
        one.offset_data for one in theirs if one.size
    ]


SAID_TWICE = [
    extended(record("path", "a")) + extended(record("path", "b")),
    extended(b"a\0", b"L") + extended(record("path", "b")),
    extended(record("path", "b")) + extended(b"a\0", b"L"),
    extended(b"a\0", b"L") + extended(b"b\0", b"L"),
    extended(b"a\0", b"K") + extended(b"b\0", b"K"),
    extended(b"a\0", b"K") + extended(record("linkpath", "b")),
]


@pytest.mark.parametrize("headers", SAID_TWICE)
def test_a_file_named_in_two_ways_is_refused(headers: bytes) -> None:
    with pytest.raises(ImageError, match="two ways"):
        list(members(spooled(headers + bare("c"))))
