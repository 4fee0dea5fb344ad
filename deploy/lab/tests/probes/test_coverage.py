"""Every line of the pages of probes is held by a test here, or stands in a list with its reason.

The pages lie beside the project where there are any; without them this has nothing to compare.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.tests import probes
from deploy.lab.tests.probes.scenario import INNER, Look, lines

PAGES = sorted((Path(__file__).parents[5] / "shared" / "xapi").glob("PROBES*.md"))

NOT_SERVED = {
    "`VBD.insert('<>', '<>')` → **['INTERNAL_ERROR', 'vbd_insert_hvm: ": (
        "the simulated hypervisor's own fault: on a later page the same call succeeds"
    ),
    "`VDI.copy('<>', '<>')` → **['VDI_COPY_FAILED', '']**": (
        "the simulated storage's own fault: on a later page the same call succeeds"
    ),
    "`pool.enable_ha([], {})` → **['INTERNAL_ERROR', 'Unix.Unix_error(Unix.ENOENT": (
        "the probed hosts lacked HA's programs, the lab's hosts do not"
    ),
    "`pool.eject('<>',)` → **['INTERNAL_ERROR', 'Sys_error(\"/etc/firstboot.d": (
        "the probed hosts lacked a folder, the lab's hosts do not: a later page has it succeed"
    ),
    "3 hosts": "follows from the eject that failed",
}
CUT = 300
"""Characters; longer answers may have been cut."""


def key(line: str) -> str:
    """The line without what differs from pool to pool: durations, references, their names."""
    line = re.sub(r"\s+\(\d+\.\d+s\)$", "", line.strip().removeprefix("- ").strip())
    line = line.removesuffix("(waits)").strip()
    return re.sub(r"(OpaqueRef:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|<[^<> ]+>", "<>", line)


def as_compared(line: str) -> str:
    """As much of a scenario's line as its test compares: not the texts that prove nothing."""
    found = INNER.search(line)
    return line[: found.end()] if found else line


def fits(line: str, beginning: str) -> bool:
    """Whether the page's line begins so. Very long answers are cut short on the pages."""
    return line.startswith(beginning) or (len(line) >= CUT and beginning.startswith(line))


def lines_of_pages() -> list[str]:
    return [
        key(line)
        for page in PAGES
        for line in page.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]


def is_line(step: object) -> bool:
    return isinstance(step, Look) or (isinstance(step, str) and step.startswith("`"))


def held_lines() -> Iterator[str]:
    """The lines that the tests of this package name, from their beginnings."""
    for found in pkgutil.iter_modules(probes.__path__):
        if not found.name.startswith("test_"):
            continue
        module = importlib.import_module(f"{probes.__name__}.{found.name}")
        for _, member in inspect.getmembers(module):
            if isinstance(member, list) and any(map(is_line, member)):
                yield from (as_compared(key(line)) for line in lines(member))
            elif inspect.isfunction(member) and member.__module__ == module.__name__:
                yield from (key(line) for line in vars(member).get("probes", ()))


def left_over(wanted: list[str], beginnings: list[str]) -> tuple[list[str], list[str]]:
    """Lines that no beginning fits, and beginnings that fit no line; each fits one."""
    unused = sorted(beginnings, key=len, reverse=True)
    missing = []
    for line in wanted:
        fitting = next((text for text in unused if fits(line, text)), None)
        if fitting is None:
            missing.append(line)
        else:
            unused.remove(fitting)
    return missing, unused


@pytest.mark.skipif(not PAGES, reason="../shared/xapi/PROBES*.md are not here")
def test_every_line_of_the_pages_is_held() -> None:
    missing, unused = left_over(lines_of_pages(), [*held_lines(), *map(key, NOT_SERVED)])
    assert missing == []
    assert unused == []
