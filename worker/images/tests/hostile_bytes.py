"""Hostile layers that are so by their bytes: spoilt headers, false maps of holes, bombs."""

import gzip
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator

import zstandard

from worker.images.records import GIB, MIB, Limits
from worker.images.tests.crafting import folder, link, member, tar
from worker.images.tests.hostile_case import LARGE, MALFORMED, MISMATCH, Case
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

# ---------------------------------------------------------------------------------------------- spoilt headers

_FIELDS = {
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
}
_NUMBERS: dict[str, Callable[[int], bytes]] = {
    "letters": lambda width: b"x" * width,
    "digits that are not octal": lambda width: b"8".rjust(width - 1, b"0") + b"\0",
    "a sign": lambda width: b"-1".ljust(width, b"\0"),
    "an underscore": lambda width: b"1_0".ljust(width, b"\0"),
    "a prefix": lambda width: b"0o7".ljust(width, b"\0"),
    "digits of another script": lambda width: "\u0663".encode().ljust(width, b"\0"),
}


def spoilt_headers() -> Iterator[Case]:
    for field, (at, width) in _FIELDS.items():
        for what, make in _NUMBERS.items():
            header = bytearray(bare("f"))
            header[at : at + width] = make(width)
            yield Case(f"{what} for the {field}", MALFORMED, [summed(header)])
    for field in ("uid", "gid", "size"):
        at, width = _FIELDS[field]
        for what, first in {"less than nothing": b"\xff", "more than can be": b"\x80\x7f"}.items():
            header = bytearray(bare("f"))
            header[at : at + width] = first.ljust(width, b"\xff")
            yield Case(f"{what} for the {field}", MALFORMED, [summed(header)])
    for what, kind in {
        "volume": b"V",
        "part": b"M",
        "dump": b"D",
        "solaris": b"X",
        "new": b"Z",
    }.items():
        header = bytearray(bare("f"))
        header[156:157] = kind
        yield Case(f"a member of kind {what}", MALFORMED, [summed(header)])
    whole = bare("a", b"x" * 700) + bare("b")
    for cut in (1, 511, 513, 1100, 1537, 2000):
        yield Case(f"an archive that is cut at {cut}", MALFORMED, [whole[:cut]])
    yield Case(
        "an archive that is cut in the padding",
        {"a": "file " + "x" * 700},
        [whole[:1400]],
    )
    broken = bytearray(whole)
    broken[1536] ^= 1
    yield Case("a header whose sum is wrong", MALFORMED, [bytes(broken)])
    yield Case("files behind the end", MALFORMED, [bare("a") + bytes(512) + bare("b")])
    yield Case("files far behind the end", {"a": "file "}, [bare("a") + bytes(1024) + bare("b")])
    yield Case("a member that goes past the end", MALFORMED, [_sized(bare("f"), 10**6)])
    yield Case("random bytes", MALFORMED, [bytes(range(1, 256)) * 8])
    for major, minor in ((4096, 0), (0, 2**20)):
        bad = member("d", tarfile.CHRTYPE, devmajor=major, devminor=minor)
        yield Case(f"a device {major}:{minor}", MALFORMED, [tar(bad)])


def _sized(header: bytes, size: int) -> bytes:
    changed = bytearray(header)
    changed[124:136] = b"%011o\0" % size
    return summed(changed)


# ------------------------------------------------------------------------------------------------- pax records

_RECORDS = {
    "no length": b"path=x\n",
    "a length of nothing": b"0 path=x\n",
    "a length less than its own digits": b"1 path=x\n",
    "a length that is too short": b"6 path=x\n",
    "a length that is too long": b"99 path=x\n",
    "a length with a sign": b"+9 path=x\n",
    "a length of many digits": b"0000000009 path=x\n",
    "no line's end": b"9 path=x!",
    "no sign between": b"7 path\n",
    "no key": b"5 =x\n",
    "a key with a nought": record("pa\0th", "x"),
    "a name with a nought": record("path", "a\0b"),
    "a link with a nought": record("linkpath", "a\0b"),
    "letters for a size": record("size", "x"),
    "a size below nothing": record("size", "-1"),
    "a size that no file has": record("size", 2**63),
    "a size of twenty-one digits": record("size", "9" * 21),
    "letters for an owner": record("uid", "root"),
    "an owner that none has": record("uid", 2**32 - 1),
    "a group that none has": record("gid", 2**40),
    "a time that is no number": record("mtime", "nan"),
    "a time without end": record("mtime", "inf"),
    "a time with an exponent": record("mtime", "1e99"),
    "a name of 256 bytes": record("path", "n" * 256),
    "a name of 256 bytes in a path": record("path", "a/" + "é" * 128 + "/b"),
    "an attribute without a name": record("SCHILY.xattr.user.", "x"),
    "an attribute with a name too long": record("SCHILY.xattr.user." + "n" * 251, "x"),
    "an attribute of 65536 bytes": record("SCHILY.xattr.user.a", "x" * 65536),
    "attributes of more than 65536 bytes": record("SCHILY.xattr.user.a", "x" * 40000)
    + record("SCHILY.xattr.user.b", "x" * 40000),
    "capabilities that are none": record("SCHILY.xattr.security.capability", "x"),
    "an access list that is none": record("SCHILY.xattr.system.posix_acl_access", "x" * 12),
    "an access list that is cut": record("SCHILY.xattr.system.posix_acl_default", "\2\0\0\0\1"),
}


def pax_records() -> Iterator[Case]:
    for what, body in _RECORDS.items():
        # A link's own target comes to bear with a link only.
        last = tar(link("l", "t")) if "link" in what else bare("f")
        yield Case(f"pax: {what}", MALFORMED, [extended(body) + last])
    kept = {"f": "file "}
    for key in (
        "security.selinux",
        "trusted.overlay.opaque",
        "user.overlay.redirect",
        "system.nfs4",
    ):
        body = record(f"SCHILY.xattr.{key}", "y")
        yield Case(f"pax: an attribute {key} is dropped", kept, [extended(body) + bare("f")])
    yield Case("pax: an empty value says nothing", kept, [extended(record("path", "")) + bare("f")])
    yield Case(
        "pax: a name said twice, in two headers",
        MALFORMED,
        [extended(record("path", "a")) * 2 + bare("f")],
    )
    both = extended(b"long\0", b"L") + extended(record("path", "a"))
    yield Case("pax: a name said by GNU and by POSIX", MALFORMED, [both + bare("f")])
    yield Case("pax: headers, and no file", MALFORMED, [extended(record("path", "a"))])
    yield Case("gnu: a long name, and no file", MALFORMED, [extended(b"a\0", b"L")])
    yield Case("gnu: a long name that is cut", MALFORMED, [extended(b"a" * 600, b"L")[:900]])
    yield Case("gnu: a long name of 2 MiB", LARGE, [extended(b"a/" * MIB, b"L") + bare("f")])
    many = b"".join(extended(record(f"g{n}", "x" * 60_000), b"g") for n in range(20))
    yield Case("pax: too much is said of all files", LARGE, [many + bare("f")])
    small = b"".join(extended(b"", b"g") for _ in range(100))
    yield Case("pax: a hundred headers of nothing", kept, [small + bare("f")])


# ------------------------------------------------------------------------------------------------ sparse files

_MAKERS = {"pax 0.0": pax_0_0, "pax 0.1": pax_0_1, "pax 1.0": pax_1_0, "old gnu": old_gnu}
_MAPS: dict[str, tuple[list[tuple[int, int]], int, bytes]] = {
    "pieces that overlap": ([(0, 4), (2, 4)], 20, b"12345678"),
    "pieces that go back": ([(10, 4), (0, 4)], 20, b"12345678"),
    "a piece past the end": ([(18, 4)], 20, b"1234"),
    "more data than pieces": ([(0, 4)], 20, b"12345678"),
    "more pieces than data": ([(0, 4), (8, 8)], 20, b"1234"),
    "a size that no file has": ([(0, 4)], 2**44 + 1, b"1234"),
    "a piece where no file reaches": ([(2**33 - 1, 1)], 4, b"1"),
}


def sparse_files() -> Iterator[Case]:
    for kind, make in _MAKERS.items():
        for what, (pieces, size, data) in _MAPS.items():
            if kind == "old gnu" and size > 2**33:
                size = 2**33 - 2  # eleven octal digits have no more
                pieces = [(2**33 - 1, 4)]
            yield Case(f"{kind}: {what}", MALFORMED, [make("f", pieces, size, data)])
    yield Case(
        "pax 1.0: terabytes of disk by a byte in each chunk",
        LARGE,
        [pax_1_0("f", [(n << 30, 1) for n in range(1000)], 2**43, b"x" * 1000)],
    )
    yield Case(
        "pax 1.0: holes larger than the disk may be",
        {"f": "file, large"},
        [pax_1_0("f", [(96 * MIB - 1, 1)], 96 * MIB, b"x")],
        limits=Limits(disk_bytes=2 * MIB),
    )
    yield Case(
        "pax 1.0: more pieces than entries are allowed",
        LARGE,
        [pax_1_0("f", [(2 * n, 1) for n in range(60_000)], 200_000, b"x" * 60_000)],
    )
    head = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    for what, text in {
        "letters": b"x\n",
        "a count without end": b"9" * 512 * 3000,
        "a count that is not there": b"5\n1\n2\n",
        "numbers below nothing": b"1\n-1\n2\n",
        "a count of sextillions": b"999999999999999999999\n",
    }.items():
        data = text.ljust(-(-len(text) // 512) * 512, b"\0")
        yield Case(
            f"pax 1.0: a map of {what}", MALFORMED, [tar(member("f", data=data, pax_headers=head))]
        )
    two = tar(member("f", tarfile.GNUTYPE_SPARSE, pax_headers={"GNU.sparse.size": "1"}))
    yield Case("a map in the header and one in pax", MALFORMED, [two])
    odd = {"GNU.sparse.map": "0,1,2", "GNU.sparse.size": "9"}
    yield Case("pax 0.1: an odd map", MALFORMED, [tar(member("f", data=b"123", pax_headers=odd))])
    lost = record("GNU.sparse.numbytes", 1) + record("GNU.sparse.size", 9)
    yield Case("pax 0.0: a length without its place", MALFORMED, [extended(lost) + bare("f", b"x")])
    unsized = extended(record("GNU.sparse.map", "0,1")) + bare("f", b"x")
    yield Case("pax 0.1: a map without a size", MALFORMED, [unsized])


# ------------------------------------------------------------------------------------------------------- bombs


def bombs() -> Iterator[Case]:
    zeros = bytes(80 * MIB)
    small = tar(member("f", data=b"x"))
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
    }
    for what, pack in packers.items():
        yield Case(f"{what}: more bytes than are allowed", LARGE, [zeros], [pack(zeros)])
        yield Case(
            f"{what}: a layer that grows too much",
            LARGE,
            [zeros[: 40 * MIB]],
            [pack(zeros[: 40 * MIB])],
        )
        yield Case(f"{what}: a layer within a layer", MALFORMED, [pack(small)], [pack(pack(small))])
        # zstandard takes the end of its input for the end of the frame.
        cut = MALFORMED if what == "gzip" else MISMATCH
        yield Case(f"{what}: cut in the middle", cut, [small], [pack(small)[:-20]])
        yield Case(f"{what}: cut in its head", cut, [small], [pack(small)[:6]])
        yield Case(f"{what}: rubbish behind", MALFORMED, [small], [pack(small) + b"rubbish!"])
        yield Case(
            f"{what}: another archive than was said", MISMATCH, [small], [pack(tar(member("g")))]
        )
    spoilt = bytearray(gzip.compress(small))
    spoilt[-6] ^= 1
    yield Case("gzip: a check that does not hold", MALFORMED, [small], [bytes(spoilt)])
    spoilt = bytearray(gzip.compress(small))
    spoilt[-1] ^= 1
    yield Case("gzip: a length that does not hold", MALFORMED, [small], [bytes(spoilt)])
    yield Case("gzip: a method that is none", MALFORMED, [small], [b"\x1f\x8b\x07" + bytes(30)])
    many = gzip.compress(b"") * 5000 + gzip.compress(small)
    yield Case("gzip: five thousand empty members", {"f": "file x"}, [small], [many])
    raw = zlib.compress(small)
    yield Case("deflate without gzip is no archive", MISMATCH, [small], [raw])
    window = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=window).compressobj()
    yield Case(
        "zstd: a window of 128 MiB", MALFORMED, [small], [wide.compress(small) + wide.flush()]
    )
    checked = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(small))
    checked[-1] ^= 1
    yield Case("zstd: a check that does not hold", MALFORMED, [small], [bytes(checked)])
    yield Case(
        "zstd: skippable frames of gigabytes",
        MISMATCH,
        [small],
        [struct.pack("<II", 0x184D2A50, 2**31)],
    )
    yield Case("xz is not known", MISMATCH, [small], [b"\xfd7zXZ\0" + bytes(100)])
    yield Case("many files", LARGE, [tar(*[member(f"{n}") for n in range(5001)])])
    yield Case(
        "many files by many layers", LARGE, [tar(*[member(f"{n}") for n in range(500)])] * 11
    )
    yield Case(
        "many folders that nobody named", LARGE, [tar(*[member(f"{n}/a/b/c") for n in range(1300)])]
    )
    yield Case("folders in folders", LARGE, [tar(member("/".join("d" * 33)))])
    yield Case("folders in folders by a link", LARGE, [
        tar(folder("/".join("d" * 20)), link("l", "/".join("d" * 20)), folder("l/" + "/".join("e" * 20)))
    ])  # fmt: skip
    noise = os.urandom(64)
    heavy = [
        member(f"{n}", pax_headers={"SCHILY.xattr.user.a": f"{n}" + noise.hex() * 300})
        for n in range(20)
    ]
    yield Case("attributes that fill the memory", LARGE, [tar(*heavy)])
    targets = [link(f"{n}", f"{n}/" + "x/" * 2000) for n in range(200)]
    yield Case("link targets that fill the memory", LARGE, [tar(*targets)])
    yield Case(
        "a disk larger than is allowed",
        LARGE,
        [tar(member("f", data=b"x" * (3 * MIB)))],
        limits=Limits(disk_bytes=2 * MIB),
    )
    yield Case(
        "an archive at its limit passes",
        {"f": "file x"},
        [small],
        limits=Limits(unpacked_bytes=len(small)),
    )
    yield Case(
        "an archive past its limit", LARGE, [small], limits=Limits(unpacked_bytes=len(small) - 1)
    )
    yield Case("a gigabyte in a kilobyte", LARGE, [b""], [_nested_zeros()], limits=Limits())


def _nested_zeros() -> bytes:
    """A gigabyte of zeros in a megabyte; made piece by piece."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(MIB)
    return b"".join(pack.compress(piece) for _ in range(GIB // MIB)) + pack.flush()
