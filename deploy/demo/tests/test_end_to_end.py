"""Everything at once, from outside, with real processes that are killed in the middle of it.

One demonstration for all: twenty containers come, a host is drained, another one loses its power; and while
each of these goes on, every kind of process is killed once, with no warning.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as XmlRpcError

import pytest

from deploy.demo.tests.running import Demo, demonstration
from deploy.demo.tests.visitor import Caller, PoolAsSeen, Vm, kill, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# As they are called, in an order in which each is missed by what comes after it.
KINDS = (
    "tenant",
    "web",
    "follower",
    "beat",
    "recovery",
    "images",
    "relay",
    "redis",
    "postgres",
)
BETWEEN_KILLS = 1.5
MIB = 2**20
EACH = 7  # beside the three that each tenant has: twenty of two tenants


@dataclass
class Estate:
    """`demo` runs; people are signed in."""

    demo: Demo
    operator: Caller
    owners: dict[str, Caller]
    pool: PoolAsSeen

    def statuses(self) -> dict[str, str]:
        """Of all containers, as their tenants are told."""
        return {
            f"{slug}/{one['name']}": one["status"]
            for slug, owner in self.owners.items()
            for one in owner.all(f"tenants/{slug}/containers")
        }

    def all_run(self, count: int) -> bool:
        seen = self.statuses()
        return len(seen) == count and set(seen.values()) == {"running"}

    def hosts(self) -> dict[str, dict[str, Any]]:
        (pool,) = self.operator.all("pools")
        return {host["name"]: host for host in self.operator.all(f"pools/{pool['uuid']}/hosts")}

    def vms(self) -> dict[str, Vm]:
        """As the pool has them; asked again while it has no answer."""
        found: list[dict[str, Vm]] = []

        def ask() -> bool:
            try:
                found.append(self.pool.vms())
            except (XmlRpcError, OSError, AssertionError):
                return False
            return True

        wait_until(ask, "the pool answers", seconds=60)
        return found[-1]

    def assert_each_runs_once(self, count: int) -> dict[str, Vm]:
        """One VM of each, all running, and none ever ran on two hosts."""
        vms = self.vms()
        assert Counter(vm.power_state for vm in vms.values()) == {"Running": count}
        assert len({vm.name for vm in vms.values()}) == count
        assert self.pool.violations() == []
        return vms

    @contextmanager
    def every_process_killed(self) -> Iterator[list[str]]:
        """Beside what happens inside, each kind in its turn; afterwards all of them were."""
        killed: list[str] = []
        calm = threading.Event()

        def storm() -> None:
            for kind in KINDS:
                while not kill(self.demo.pid, kind) and not calm.wait(0.2):
                    continue
                killed.append(kind)
                calm.wait(BETWEEN_KILLS)

        thread = threading.Thread(target=storm, name="storm")
        thread.start()
        try:
            yield killed
            thread.join(120)
        finally:
            calm.set()
            thread.join(10)
        assert killed == list(KINDS)


@pytest.fixture(scope="module")
def estate() -> Iterator[Estate]:
    with demonstration(HOST_SILENCE_SECONDS="15") as demo:
        demo.until("Ctrl-C stops everything")
        secret = demo.secret
        address = demo.address
        info = json.loads(Path(demo.folder, "lab.json").read_text(encoding="utf-8"))
        yield Estate(
            demo,
            Caller(address, "operator", secret("operator-password")),
            {
                "harbor": Caller(address, "ada", secret("ada-password")),
                "mill": Caller(address, "ben", secret("ben-password")),
            },
            PoolAsSeen(demo.told("XAPI_URL"), secret("lab-password"), info["control"]),
        )


@pytest.fixture(scope="module")
def deployed(estate: Estate) -> Estate:
    """Twenty containers, asked for while everything falls over."""
    with estate.every_process_killed():
        for slug, owner in estate.owners.items():
            image = owner.all(f"tenants/{slug}/images")[0]["uuid"]
            for number in range(EACH):
                body = {
                    "name": f"app-{number}",
                    "image": image,
                    "memory_bytes": 128 * MIB,
                    "disk_bytes": 64 * MIB,
                }
                owner.post(f"tenants/{slug}/containers", body)
        wait_until(lambda: estate.all_run(20), "twenty containers run", seconds=180)
    return estate


def test_twenty_containers_of_two_tenants_come_to_life(deployed: Estate) -> None:
    deployed.assert_each_runs_once(20)


def test_a_drained_host_loses_its_vms_and_none_is_started_again(deployed: Estate) -> None:
    before = deployed.vms()
    busiest = _busiest(deployed, before)
    host = deployed.hosts()[busiest]["uuid"]
    with deployed.every_process_killed():
        deployed.operator.post(f"hosts/{host}/drain")
        wait_until(
            lambda: deployed.operator.get(f"hosts/{host}")["state"] == "maintenance",
            "the host is empty",
            seconds=180,
        )
    after = deployed.assert_each_runs_once(20)
    assert {uuid: vm.started for uuid, vm in before.items()} == {
        uuid: vm.started for uuid, vm in after.items()
    }
    assert busiest not in {vm.host for vm in after.values()}
    deployed.operator.post(f"hosts/{host}/return")
    wait_until(
        lambda: deployed.operator.get(f"hosts/{host}")["state"] == "accepting",
        "the host is back",
        seconds=60,
    )


def test_what_ran_on_a_host_without_power_is_fenced_and_runs_elsewhere(deployed: Estate) -> None:
    before = deployed.vms()
    lost = _busiest(deployed, before)
    deployed.pool.cut_power(lost)
    with deployed.every_process_killed():
        wait_until(
            lambda: deployed.hosts()[lost]["state"] == "dead" and deployed.all_run(20),
            "everything runs elsewhere",
            seconds=240,
        )
    after = deployed.assert_each_runs_once(20)
    assert lost not in {vm.host for vm in after.values()}
    stayed = {uuid for uuid, vm in before.items() if vm.host != lost}
    assert {uuid: before[uuid].started for uuid in stayed} == {
        uuid: after[uuid].started for uuid in stayed
    }


def _busiest(estate: Estate, vms: dict[str, Vm]) -> str:
    """Where most run, of the members: what happens to a master has tests of its own."""
    (pool,) = estate.operator.all("pools")
    master = {host["name"] for host in estate.hosts().values() if host["uuid"] == pool["master"]}
    return Counter(vm.host for vm in vms.values() if vm.host not in master).most_common(1)[0][0]
