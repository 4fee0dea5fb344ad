"""An interface that is hung on another bridge. The kernel's part and xenstore are fakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.xenlab.agent import domains, filters, libxl, links
from deploy.xenlab.agent.domains import Domain, Domains
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.filters import Filters
from deploy.xenlab.agent.hypervisor import Hypervisor
from deploy.xenlab.agent.plugging import Plugging
from deploy.xenlab.agent.spec import Devices, Vif
from deploy.xenlab.agent.xenstore import Xenstore

UUID = "0f6a2c5e-7d3b-4b52-9a41-5f2f6a1f0c11"
NAME = "vif7.1"
HERE = Vif(1, "00:16:3e:00:00:01", "here", True, ("10.1.2.3",), (), None)
THERE = replace(HERE, bridge="there")
OTHER = replace(HERE, device=0, mac="00:16:3e:00:00:02")
NODES = ("/libxl/7/device/vif/1/bridge", "/local/domain/0/backend/vif/7/1/bridge")


class Dom0:
    """Kernel and xenstore. `seen`: each bridge and rules that the interface was up with."""

    def __init__(self) -> None:
        self.bridges = {"here", "there"}
        self.is_there = True
        self.up, self.bridge, self.rules = True, "here", filters.rules_of(NAME, HERE)
        self.seen: list[tuple[str, str]] = []
        self.refuses = ""
        self.nodes: dict[str, str] = {}

    def _look(self) -> None:
        if self.up and (self.bridge, self.rules) not in self.seen:
            self.seen.append((self.bridge, self.rules))

    def exists(self, name: str) -> bool:
        return self.is_there and name == NAME

    def is_bridge(self, name: str) -> bool:
        return name in self.bridges

    def add_port(self, bridge: str, port: str) -> None:
        if self.refuses == "port" and bridge == "there":
            raise OSError(12, "no memory")
        self.bridge = bridge
        self._look()

    def set_up(self, name: str, *, up: bool) -> None:
        self.up = up
        self._look()

    def apply(self, rules: str) -> None:
        if self.refuses == "rules" and rules != filters.rules_of(NAME, HERE):
            raise AgentError("filter_failed", "no")
        self.rules = rules
        self._look()

    async def write(self, path: str, value: str) -> None:
        self.nodes[path] = value


@pytest.fixture
def dom0(monkeypatch: pytest.MonkeyPatch) -> Dom0:
    dom0 = Dom0()
    for name in ("exists", "is_bridge", "add_port", "set_up"):
        monkeypatch.setattr(links, name, getattr(dom0, name))
    return dom0


@pytest.fixture
def known(dom0: Dom0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domains:
    """One domain with two interfaces, as libxl and the agent know it."""
    monkeypatch.setattr(domains, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(libxl, "USERDATA", tmp_path)
    nics = [libxl.of_vif(vif).entry for vif in (OTHER, HERE)]
    kept = tmp_path / f"userdata-d.7.{UUID}.libxl-json"
    kept.write_bytes(json.dumps({"nics": nics}).encode() + b"\0")
    known = Domains(
        cast(Xenstore, dom0), cast(Hypervisor, None), cast(Filters, dom0), lambda _: None
    )
    monkeypatch.setattr(known, "look", _nothing)
    known._known[UUID] = Domain(UUID, 7, "running")
    known.expect(Devices(UUID, (), (OTHER, HERE)))
    return known


async def _nothing() -> None:
    pass


async def move(dom0: Dom0, known: Domains, **changes: Any) -> None:
    await Plugging(cast(Xenstore, dom0), known).move(UUID, {"device": 1, **changes})


def bridges_for_libxl(folder: Path) -> list[str]:
    kept = folder / f"userdata-d.7.{UUID}.libxl-json"
    return [nic["bridge"] for nic in json.loads(kept.read_bytes().rstrip(b"\0"))["nics"]]


async def test_a_moved_interface_hangs_on_its_bridge_and_everybody_knows_it(
    dom0: Dom0, known: Domains, tmp_path: Path
) -> None:
    await move(dom0, known, bridge="there")
    assert (dom0.up, dom0.bridge) == (True, "there")
    assert known.told_of(UUID).vifs == (OTHER, THERE)
    assert dom0.nodes == dict.fromkeys(NODES, "there")
    assert bridges_for_libxl(tmp_path) == ["here", "there"]


@pytest.mark.parametrize(
    ("before", "after"), [(True, False), (False, True)], ids=["looser", "stricter"]
)
async def test_an_interface_is_up_on_no_bridge_with_the_rules_of_the_other(
    dom0: Dom0, known: Domains, before: bool, after: bool
) -> None:
    old, new = replace(HERE, disabled=before), replace(THERE, disabled=after)
    known.expect(Devices(UUID, (), (OTHER, old)))
    dom0.rules = filters.rules_of(NAME, old)
    await move(dom0, known, bridge="there", disabled=after)
    assert dom0.seen == [("there", filters.rules_of(NAME, new))]


@pytest.mark.parametrize("what", ["port", "rules", "bridge"])
async def test_a_move_that_is_refused_leaves_all_as_it_was(
    dom0: Dom0, known: Domains, tmp_path: Path, what: str
) -> None:
    dom0.refuses = what
    dom0.bridges -= {"there"} if what == "bridge" else set()
    with pytest.raises((AgentError, OSError)):
        await move(dom0, known, bridge="there", disabled=True)
    assert (dom0.up, dom0.bridge, dom0.rules) == (True, "here", filters.rules_of(NAME, HERE))
    assert known.told_of(UUID).vifs == (OTHER, HERE)
    assert dom0.nodes == {}
    assert bridges_for_libxl(tmp_path) == ["here", "here"]
    assert known.one(UUID).busy == ""


async def test_an_interface_whose_bridges_are_both_gone_is_not_up_without_one(
    dom0: Dom0, known: Domains
) -> None:
    dom0.refuses = "port"
    dom0.bridges -= {"here"}
    with pytest.raises(AgentError):
        await move(dom0, known, bridge="there")
    assert not dom0.up


async def test_an_interface_that_the_kernel_has_yet_to_make_comes_up_where_it_was_moved(
    dom0: Dom0, known: Domains
) -> None:
    dom0.is_there = False
    await move(dom0, known, bridge="there")
    assert dom0.bridge == "here"
    assert known.told_of(UUID).vifs == (OTHER, THERE)


async def test_what_is_not_there_is_told_apart(dom0: Dom0, known: Domains) -> None:
    for changes, code in (
        ({"bridge": "nowhere"}, "no_such_bridge"),
        ({"bridge": "there", "device": 2}, "no_such_interface"),
        ({"bridge": "no bridge's name"}, "bad_argument"),
    ):
        with pytest.raises(AgentError) as refused:
            await move(dom0, known, **changes)
        assert refused.value.code == code


async def test_an_interface_of_a_domain_that_is_being_moved_stays(
    dom0: Dom0, known: Domains
) -> None:
    known.one(UUID).busy = "migrate"
    with pytest.raises(AgentError) as refused:
        await move(dom0, known, bridge="there")
    assert refused.value.code == "domain_busy"
    assert dom0.bridge == "here"


async def test_a_filter_that_is_set_after_a_move_holds_where_the_interface_is_now(
    dom0: Dom0, known: Domains
) -> None:
    await move(dom0, known, bridge="there", ipv4=["10.9.9.9"])
    await known.filter_vif(UUID, {"device": 1, "ipv4": ["10.8.8.8"]})
    (_, vif) = known.told_of(UUID).vifs
    assert vif == replace(THERE, ipv4=("10.8.8.8",))
    assert (dom0.bridge, dom0.rules) == ("there", filters.rules_of(NAME, vif))
