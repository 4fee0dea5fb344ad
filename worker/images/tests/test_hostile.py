"""Layers that somebody made to break out, to break down, or to be read in two ways.

Each comes to exactly what it says, and touches nothing but the spool.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.images.errors import ImageRefused
from worker.images.tests import hostile, hostile_bytes
from worker.images.tests.crafting import Shelf, build, build_of, member, tar
from worker.images.tests.hostile_case import Case, Outcome
from worker.images.tests.reading import BLOCK, Found, files

FAMILIES = (
    hostile.published,
    hostile.names,
    hostile.links,
    hostile.whiteouts_and_hard_links,
    hostile_bytes.spoilt_headers,
    hostile_bytes.pax_records,
    hostile_bytes.sparse_files,
    hostile_bytes.bombs,
)
CASES = [case for family in FAMILIES for case in family()]
_TOUCHING = ("open", "os.", "shutil.", "tempfile.", "subprocess.", "socket.", "ctypes.")
_seen: list[tuple[str, object]] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event.startswith(_TOUCHING):
        _seen.append((event, arguments[0] if arguments else None))


@contextmanager
def watched() -> Iterator[list[tuple[str, object]]]:
    """What this process asks of the system by way of Python, with the paths: PEP 578."""
    global _seen
    seen: list[tuple[str, object]] = []
    _seen = seen
    try:
        yield seen
    finally:
        _seen = None


@pytest.fixture(scope="module", autouse=True)
def _hook(tmp_path_factory: pytest.TempPathFactory) -> None:
    build(tmp_path_factory.mktemp("spool"), tar(member("f")))  # what Python loads at the first time
    sys.addaudithook(_watch)


def word(one: Found) -> str:
    kind = stat.S_IFMT(one.mode)
    if kind == stat.S_IFREG:
        return f"file {one.content.decode()}" if len(one.content) < BLOCK else "file, large"
    if kind == stat.S_IFLNK:
        return f"link {os.fsdecode(one.content)}"
    if kind == stat.S_IFBLK:
        return f"block {one.device[0]}:{one.device[1]}"
    return {stat.S_IFDIR: "dir", stat.S_IFCHR: "char", stat.S_IFIFO: "pipe"}[kind]


def outcome_of(case: Case, spool: Path) -> Outcome:
    shelf = Shelf()
    if case.blobs is None:
        layers = [shelf.put(archive) for archive in case.archives]
    else:
        layers = list(map(shelf.put, case.archives, case.blobs))
    try:
        _, disk = build_of(spool, shelf, layers, limits=case.limits)
    except ImageRefused as error:
        return error.code
    return {os.fsdecode(path): word(one) for path, one in files(disk).items() if path}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_layer_is_refused_or_harmless(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, spool = tmp_path / "canary", tmp_path / "spool"
    canary.mkdir()
    spool.mkdir()
    (canary / "passwd").write_text("root")
    monkeypatch.chdir(canary)
    before = canary.stat().st_mtime_ns
    with watched() as seen:
        found = outcome_of(case, spool)
    assert found == case.outcome
    assert list(spool.iterdir()) == []
    assert [one.name for one in canary.iterdir()] == ["passwd"]
    assert (canary.stat().st_mtime_ns, (canary / "passwd").read_text()) == (before, "root")
    touched = {(event, what) for event, what in seen if not isinstance(what, int)}
    assert touched <= {("open", str(spool))}


def test_there_are_more_than_two_hundred_and_each_is_another() -> None:
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(
        {(tuple(case.archives), tuple(case.blobs or ()), case.limits) for case in CASES}
    ) == len(CASES)


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """A check that cannot fail would be worth nothing."""
    with watched() as seen:
        (tmp_path / "x").write_text("x")
        (tmp_path / "y").mkdir()
    assert {event for event, _ in seen} >= {"open", "os.mkdir"}
