"""Everything at once, from outside, with real processes that are killed in the middle of it.

One demonstration for all: twenty containers come, a host is drained, another one loses its power; and while
each of these goes on, every kind of process is killed once, with no warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from deploy.demo.tests.estate import Estate, estate_of
from deploy.demo.tests.running import demonstration
from deploy.demo.tests.visitor import Vm, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

MIB = 2**20
EACH = 7  # beside the three that each tenant has: twenty of two tenants


@pytest.fixture(scope="module")
def estate() -> Iterator[Estate]:
    with demonstration(HOST_SILENCE_SECONDS="15") as demo:
        demo.until("Ctrl-C stops everything")
        yield estate_of(demo)


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
