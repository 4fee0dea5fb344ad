"""Hostile layers that are so by what they say: names and links that lead out, whiteouts of what is not theirs."""

import posixpath
import tarfile
from collections.abc import Callable, Iterator

from worker.images.records import MIB
from worker.images.tests.crafting import folder, hard, link, member, opaque, tar, whiteout
from worker.images.tests.hostile_case import LARGE, MALFORMED, Case
from worker.images.tests.test_layers_of_all_sorts import bare, extended, record, summed

# --------------------------------------------------------------------------- what was published, by its name


def published() -> Iterator[Case]:
    deep = "/".join(["d" * 200] * 20)
    yield Case(
        "CVE-2007-4559: tarfile wrote where '..' led",
        {"etc": "dir", "etc/cron.d": "dir", "etc/cron.d/x": "file !"},
        [tar(member("../../../../etc/cron.d/x", data=b"!"))],
    )
    yield Case(
        "CVE-2024-12718: mode and time of what is outside",
        {},
        [tar(folder("..", mode=0o777, mtime=1), folder("../..", mode=0o777))],
    )
    yield Case(
        "CVE-2025-4138: a symbolic link out, by way of a folder that is renamed below it",
        {"a": "dir", "a/b": "link ../../..", "etc": "dir", "etc/x": "file !"},
        [tar(folder("a"), link("a/b", "../../.."), member("a/b/etc/x", data=b"!"))],
    )
    yield Case(
        "CVE-2025-4330: a hard link through a symbolic link to what is outside",
        MALFORMED,
        [tar(link("out", "/etc"), hard("shadow", "out/shadow"))],
    )
    yield Case(
        "CVE-2025-4517: a path longer than realpath() follows, then '..'",
        MALFORMED,
        [tar(folder(deep), link("escape", f"{deep}/{'../' * 40}etc"), member("escape/x"))],
    )
    yield Case(
        "CVE-2025-4517: the same within the depth allowed lands inside",
        {"etc": "dir", "etc/x": "file !", "s": "link " + "../" * 400 + "etc"},
        [tar(link("s", "../" * 400 + "etc"), member("s/x", data=b"!"))],
    )
    yield Case(
        "CVE-2025-4435: a refused member must not let the others through",
        MALFORMED,
        [tar(member("good"), member("bad", uid=-1), member("other"))],
    )
    for name in (".", "/", "./", "..", "a/.."):
        yield Case(
            f"CVE-2021-29136: the root itself as a symbolic link named {name!r}",
            MALFORMED,
            [tar(link(name, "/etc"), member("passwd"))],
        )
    yield Case(
        "CVE-2014-9357: a layer that unpacks over /proc/self/exe",
        {"proc": "link /", "self": "dir", "self/exe": "file !"},
        [tar(link("proc", "/")), tar(member("proc/self/exe", data=b"!"))],
    )
    yield Case(
        "CVE-2016-6321: GNU tar stripped the part before '..'",
        {"etc": "dir", "etc/shadow": "file !"},
        [tar(member("safe/../etc/shadow", data=b"!"))],
    )
    yield Case(
        "CVE-2018-12015: a link, then a file of the same name",
        {"x": "file !"},
        [tar(link("x", "/etc/passwd"), member("x", data=b"!"))],
    )
    yield Case(
        "CVE-2018-20834: a hard link, then a file of the same name",
        {"a": "file a", "b": "file !"},
        [tar(member("a", data=b"a"), hard("b", "a"), member("b", data=b"!"))],
    )
    yield Case(
        "CVE-2021-32803: a folder, remembered as such, becomes a link",
        {"d": "link /", "x": "file !"},
        [tar(folder("d"), member("d/first"), link("d", "/"), member("d/x", data=b"!"))],
    )
    yield Case(
        "CVE-2021-37701: the same by way of another spelling of the name",
        {"d": "link /", "x": "file !"},
        [tar(member("d/first"), link("./d/", "/"), member("d/x", data=b"!"))],
    )
    yield Case(
        "CVE-2021-37712: the same in a later layer",
        {"d": "link /", "x": "file !"},
        [tar(member("d/first")), tar(whiteout("d"), link("d", "/"), member("d/x", data=b"!"))],
    )
    yield Case(
        "CVE-2021-32804: many slashes before an absolute path",
        {"etc": "dir", "etc/x": "file !"},
        [tar(member("////etc/x", data=b"!"))],
    )
    yield Case(
        "CVE-2025-45582: a link in one archive, a file behind it in the next",
        {"x": "link ..", "authorized_keys": "file !"},
        [tar(link("x", "..")), tar(member("x/authorized_keys", data=b"!"))],
    )
    header = bytearray(bare("f"))
    header[257:512] = bytes(255)
    header[136:148] = b" " * 12
    yield Case(
        "CVE-2022-48303: a v7 header with blanks for a time", {"f": "file "}, [summed(header)]
    )
    yield Case(
        "CVE-2022-2879: a header of attributes without end",
        LARGE,
        [extended(record("comment", "x" * (2 * MIB))) + bare("f")],
    )
    yield Case(
        "CVE-2017-14992: an archive of nothing but padding",
        LARGE,
        [bytes(60 * MIB)],
    )
    yield Case(
        "banger: whiteout behind a link, then a hard link to what it hid",
        MALFORMED,
        [
            tar(folder("real"), member("real/secret"), link("l", "/real")),
            tar(whiteout("l/secret"), hard("copy", "real/secret")),
        ],
    )


# --------------------------------------------------------------------------------- names that lead elsewhere

_AWAY = {
    "../x": "x",
    "../../../../../../x": "x",
    "/x": "x",
    "//x": "x",
    "/../x": "x",
    "./../x": "x",
    "a/../../x": "x",
    "a/../x": "x",
    "a/b/../../../x": "x",
    "./././x": "x",
    "x/.": "x",
    "..\\x": "..\\x",
    "C:\\x": "C:\\x",
    "....//x": "..../x",
    "%2e%2e/x": "%2e%2e/x",
    ".. /x": ".. /x",
    "\u2025/x": "\u2025/x",
}
_THINGS: dict[str, tuple[Callable[[str], tuple[tarfile.TarInfo, bytes]], str]] = {
    "file": (lambda name: member(name, data=b"!"), "file !"),
    "folder": (folder, "dir"),
    "link": (lambda name: link(name, "/etc/passwd"), "link /etc/passwd"),
    "hard link": (lambda name: hard(name, "t"), "file t"),
    "device": (lambda name: member(name, tarfile.BLKTYPE, devmajor=8), "block 8:0"),
}


def names() -> Iterator[Case]:
    for name, lands in _AWAY.items():
        for thing, (make, word) in _THINGS.items():
            found = {"t": "file t", **_above(lands), lands: word}
            yield Case(
                f"a {thing} named {name!r}", found, [tar(member("t", data=b"t"), make(name))]
            )
    for name in ("", ".", "/", "..", "a/..", "../.."):
        yield Case(f"a file named {name!r}", MALFORMED, [tar(member(name))])


def _above(path: str) -> dict[str, str]:
    parts = path.split("/")[:-1]
    return {"/".join(parts[: n + 1]): "dir" for n in range(len(parts))}


# ------------------------------------------------------------------------------------ links that lead elsewhere

_TARGETS = [
    *("/", "/etc", "..", "../../../etc", "/proc/self/root", "./x/../../etc", "//etc//"),
    *("/../../etc", "x/../..", "/dev/fd/3"),
]


def links() -> Iterator[Case]:
    for target in _TARGETS:
        away = posixpath.normpath("/" + target).strip("/")
        there = _above(f"{away}/x") if away else {}
        base = {"l": f"link {target}"}
        if target == "./x/../../etc" or target == "x/../..":
            there = {"x": "dir", **there}  # the way there leads through a folder that is made
        make = link("l", target)
        inside = f"{away}/new".strip("/")
        yield Case(
            f"a file behind a link to {target!r}",
            {**base, **there, inside: "file !"},
            [tar(make, member("l/new", data=b"!"))],
        )
        yield Case(
            f"a folder behind a link to {target!r}, in a later layer",
            {**base, **there, inside: "dir"},
            [tar(make), tar(folder("l/new"))],
        )
        yield Case(
            f"a hard link behind a link to {target!r}", MALFORMED, [tar(make, hard("h", "l/no"))]
        )
        yield Case(
            f"a whiteout behind a link to {target!r}", base, [tar(make), tar(whiteout("l/passwd"))]
        )
        yield Case(
            f"an opaque mark behind a link to {target!r}",
            # A link to the root makes all of it opaque, the link too.
            {} if not away and target not in ("x/../..",) else base,
            [tar(make), tar(opaque("l"))],
        )


# --------------------------------------------------------------------------------- whiteouts and links to files


def whiteouts_and_hard_links() -> Iterator[Case]:
    lower = tar(folder("d"), member("d/f", data=b"f"), member("top", data=b"t"))
    kept: dict[str, str] = {"d": "dir", "d/f": "file f", "top": "file t"}
    for name in (".wh.", "d/.wh.", ".wh..", ".wh...", "d/.wh.."):
        yield Case(f"a whiteout named {name!r}", MALFORMED, [lower, tar(member(name))])
    for name in (".wh.d/x", "d/.wh.f/x", ".wh.none/a/b"):
        yield Case(f"a file below a whiteout, {name!r}", MALFORMED, [lower, tar(member(name))])
    for name in (".wh..wh.plnk/1.2", ".wh..wh.aufs", "d/.wh..wh.orph"):
        yield Case(f"the bookkeeping of aufs, {name!r}", kept, [lower, tar(member(name))])
    for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        hides = member(".wh.top", kind, linkname="x" if kind == tarfile.SYMTYPE else "")
        yield Case(
            f"a whiteout of kind {kind!r}",
            {"d": "dir", "d/f": "file f"},
            [lower, tar(hides)],
        )
    yield Case("a whiteout outside", kept, [lower, tar(member("../../etc/.wh.passwd"))])
    yield Case(
        "a whiteout of its own layer", {"a": "file a"}, [tar(member("a", data=b"a"), whiteout("a"))]
    )
    yield Case(
        "an opaque root",
        {"n": "file n"},
        [lower, tar(member(".wh..wh..opq"), member("n", data=b"n"))],
    )
    yield Case("a whiteout through a file", kept, [lower, tar(whiteout("top/x"))])
    yield Case("a whiteout written with a link", MALFORMED, [lower, tar(hard("x", ".wh.top"))])
    for target in ("none", "", ".", "/", "..", "d", "top/x", "/proc/self/exe", "../../etc/shadow"):
        yield Case(f"a hard link to {target!r}", MALFORMED, [lower, tar(hard("h", target))])
    yield Case(
        "a hard link to what is hidden", MALFORMED, [lower, tar(whiteout("top"), hard("h", "top"))]
    )
    yield Case("a hard link to itself, from nothing", MALFORMED, [tar(hard("h", "h"))])
    yield Case("hard links in a ring", MALFORMED, [tar(hard("a", "b"), hard("b", "a"))])
    yield Case(
        "a hard link over a folder",
        {"d": "file t", "top": "file t"},
        [lower, tar(hard("d", "top"))],
    )
    yield Case("a hard link with data", {**kept, "h": "file t"}, [lower, _hard_with_data()])
    yield Case("links in a ring", MALFORMED, [tar(link("a", "b"), link("b", "a"), member("a/x"))])
    yield Case("a link to itself", MALFORMED, [tar(link("a", "a"), member("a/x"))])
    chain = [link(f"l{n}", f"l{n + 1}") for n in range(60)]
    yield Case(
        "more links than are followed", MALFORMED, [tar(*chain, folder("l60"), member("l0/x"))]
    )
    doubling = [link(f"l{n}", f"l{n + 1}/l{n + 1}") for n in range(30)]
    yield Case("links that double", MALFORMED, [tar(*doubling, link("l30", "."), member("l0/x"))])
    yield Case("a file below a file", MALFORMED, [tar(member("a"), member("a/b"))])
    yield Case(
        "a file below a device", MALFORMED, [tar(member("a", tarfile.CHRTYPE), member("a/b"))]
    )
    yield Case(
        "a file below a pipe", MALFORMED, [tar(member("a", tarfile.FIFOTYPE), member("a/b"))]
    )
    yield Case("a link without a target", MALFORMED, [tar(link("l", ""))])
    yield Case("a link of 4096 bytes", MALFORMED, [tar(link("l", "x/" * 2048))])
    yield Case("a link with a name too long", MALFORMED, [tar(link("l", "x" * 256))])


def _hard_with_data() -> bytes:
    """Some archivers store data with a hard link; its header says a size, and readers disagree on skipping."""
    header = bytearray(bare("h"))
    header[156:157] = b"1"
    header[157:160] = b"top"
    return summed(header)
