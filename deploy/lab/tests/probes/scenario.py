"""Probes: calls that were made on a real pool one after the other, and what it answered.

A scenario is a list of steps. A line of text is a call and its answer as the page of probes has
them:

    `VM.pause('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'running', 'halted']**

* `<name>` stands for a reference that is known by then (`<uuid:name>` for a uuid), `<address:h1>`
  for an address; as the answer, or within it, a name that is not known yet is bound to what the
  lab answered.
* The answer in ** is an error: its code and all its parameters, except where these are no answer of
  the daemon itself (INTERNAL_ERROR, SR_BACKEND_FAILURE_*: only the code). Nothing is a void answer.
* A call waits when the line ends with (waits): at least `LONG` seconds of lab time; all others
  answer sooner.

A `Look` is a remark of the page: what was read at that moment. Anything else is done to get to
the next line. A scenario is played once; every line is a test case of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from XenAPI import XenAPI

from deploy.lab.samples import GIB
from deploy.lab.testing import RunningLab
from deploy.lab.tests.vms import Vms

LONG = 10.0
"""Seconds of lab time that part the calls that wait from those that do not."""
HURRY = 1000.0
"""Rate of the clock while something waits."""
_LINE = re.compile(
    r"`(?P<call>.+?)`(?: \[(?P<note>[^]]+)\])? → (?P<answer>.*?)(?P<waits>\s*\(waits\))?"
)
_NAME = re.compile(r"<[A-Za-z0-9:.@-]+>")
INNER = re.compile(r"INTERNAL_ERROR|SR_BACKEND_FAILURE_\d+")
"""Errors whose parameters are texts of what is below the daemon."""
_UNORDERED = {"NETWORK_CONTAINS_PIF", "NETWORK_CONTAINS_VIF"}


@dataclass(frozen=True)
class Look:
    """A remark of the page (from its beginning), how to read it in the lab, what it must say."""

    line: str
    read: Callable[[Pool], Any]
    says: Any


Step = str | Look | Callable[["Pool"], object]


class Pool(Vms):
    """A client of a lab that knows its objects by the names that the probes use."""

    def __init__(self, lab: RunningLab) -> None:
        super().__init__(lab)
        self.known: dict[str, str] = {}
        for name, ref in self.hosts.items():
            self.bind(name, ref)
            self.known[f"<address:{name}>"] = self.api.host.get_address(ref)
            self.bind(f"local-{name}", self.local_storage(name))
            for pif in self.api.host.get_PIFs(ref):
                self.bind(f"{name}-{self.api.PIF.get_device(pif)}", pif)
        self.bind("pool", self.api.pool.get_all()[0])
        self.bind("nfs", self.shared_storage())
        self.bind("template", self.api.VM.get_by_name_label("Other install media")[0])
        self.bind("xenbr0", self.network("xenbr0"))

    def network(self, bridge: str) -> str:
        records = self.api.network.get_all_records().items()
        return next(str(ref) for ref, network in records if network["bridge"] == bridge)

    def bind(self, name: str, value: str) -> None:
        self.known[f"<{name}>"] = value

    def __getitem__(self, name: str) -> str:
        """The reference that the name stands for."""
        return self.known[f"<{name}>"]

    def name_uuid(self, name: str, cls: str) -> None:
        """Let `<uuid:name>` stand for the object's uuid."""
        self.bind(f"uuid:{name}", getattr(self.api, cls).get_uuid(self[name]))

    def make(self, name: str, **options: Any) -> str:
        """A halted VM of that name, 1 GiB large, without devices."""
        settings: dict[str, Any] = {"memory": GIB, "name_label": name}
        vm = self.vm(**(settings | options))
        self.bind(name, vm)
        return vm

    def make_whole(self, name: str, sr: str = "nfs", **options: Any) -> str:
        """… with a disk on that storage and an interface, called `<name>-vdi0`, `-vbd0`, `-vif0`."""
        vm = self.make(name, **options)
        self.bind(f"{name}-vdi0", self.disk(self[sr]))
        self.bind(f"{name}-vbd0", self.give_disk(vm, self[f"{name}-vdi0"]))
        self.bind(f"{name}-vif0", self.give_interface(vm, self["xenbr0"]))
        return vm

    def live(self, host: str) -> bool:
        return bool(self.api.host_metrics.get_live(self.api.host.get_metrics(self[host])))

    def enabled(self, host: str) -> bool:
        return bool(self.api.host.get_enabled(self[host]))

    def finish(self, task: str) -> str:
        """Wait for the task's end; answer its status."""
        while self.api.task.get_status(task) == "pending":
            self.lab.clock.advance(0.1)
        return str(self.api.task.get_status(task))

    def hurry(self, rate: float = HURRY) -> None:
        self.lab.clock.set_rate(rate)

    # --- the lines' language

    def fill(self, text: str) -> str:
        """The text with every known name replaced."""
        return _NAME.sub(lambda name: self.known.get(name[0], name[0]), text)

    def learn(self, pattern: str, answer: Any) -> None:
        """Bind the names of the pattern that are not known yet to what stands at their place."""
        if _NAME.fullmatch(pattern) and isinstance(answer, str):
            self.known.setdefault(pattern, answer)
        elif isinstance(answer, list) and pattern.startswith("["):
            for name, item in zip(_NAME.findall(pattern), answer, strict=False):
                self.learn(name, item)

    def call(self, text: str) -> Any:
        """Make the call that the text spells; answer its value, or its error as a tuple."""
        name, arguments = self.fill(text).split("(", 1)
        given = ast.literal_eval(f"({arguments}") if arguments != ")" else ()
        given = given if isinstance(given, tuple) else (given,)
        try:
            return self.session.xenapi_request(name, given)
        except XenAPI.Failure as failure:
            return tuple(failure.details)


@dataclass(frozen=True)
class Answer:
    """What a line of the scenario says, and what the lab answered."""

    said: Any
    given: Any


Played = list[Answer]
"""The answers to all lines of a scenario, in their order."""


def lines(steps: Sequence[Step]) -> list[str]:
    """The lines of the page that the scenario answers."""
    return [s.line if isinstance(s, Look) else s for s in steps if isinstance(s, str | Look)]


def each_line(steps: Sequence[Step]) -> pytest.MarkDecorator:
    """A test case for every line of the scenario, called like the line; it gets its `number`."""
    numbered = [
        pytest.param(number, id=f"{number + 1}. {_short(line)}")
        for number, line in enumerate(lines(steps))
    ]
    return pytest.mark.parametrize("number", numbered)


def _short(line: str) -> str:
    found = _LINE.fullmatch(line)
    text = line.strip() if found is None else found["call"]
    note = f" [{found['note']}]" if found is not None and found["note"] else ""
    return text.replace("::", ":")[:70] + note


def play(pool: Pool, steps: Sequence[Step]) -> Played:
    """Do all steps in their order."""
    played: Played = []
    for step in steps:
        if isinstance(step, str):
            played.append(_ask(pool, step))
        elif isinstance(step, Look):
            played.append(Answer(step.says, _read(pool, step)))
        else:
            step(pool)
    return played


def _read(pool: Pool, look: Look) -> Any:
    """What the look finds; a failed look is an answer too, so that the other lines get theirs."""
    try:
        return look.read(pool)
    except (AssertionError, XenAPI.Failure) as error:
        return error


def _ask(pool: Pool, line: str) -> Answer:
    found = _LINE.fullmatch(line)
    assert found is not None, f"not a line of a scenario: {line}"
    waits = found["waits"] is not None
    rate = pool.lab.lab.clock.rate
    if waits:
        pool.hurry()
    before = pool.lab.clock.now()
    given = pool.call(found["call"])
    waited = pool.lab.clock.now() - before >= LONG
    pool.hurry(rate)
    text = found["answer"].strip()
    pool.learn(text, given)
    return Answer((_expected(pool, text), waits), (_comparable(given), waited))


def _expected(pool: Pool, text: str) -> Any:
    if text.startswith("**"):
        return _comparable(tuple(ast.literal_eval(pool.fill(text.strip("*")))))
    text = pool.fill(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _comparable(answer: Any) -> Any:
    """The answer without what proves nothing."""
    if isinstance(answer, tuple):
        if INNER.fullmatch(answer[0]):
            return answer[:1]
        if answer[0] in _UNORDERED:
            return (answer[0], *sorted(answer[1:]))
    return answer


Test = TypeVar("Test", bound=Callable[..., object])


def probe(*beginnings: str) -> Callable[[Test], Test]:
    """Say which lines of the pages, by their beginnings, the test holds the lab to."""

    def mark(test: Test) -> Test:
        vars(test).setdefault("probes", []).extend(beginnings)
        return test

    return mark
