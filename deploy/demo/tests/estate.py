"""A demonstration as its people and its pool see it, and the storm that kills its processes."""

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

from deploy.demo.tests.running import Demo
from deploy.demo.tests.visitor import Caller, PoolAsSeen, Vm, kill, wait_until

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
OWNERS = {"harbor": "ada", "mill": "ben"}


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


def estate_of(demo: Demo) -> Estate:
    """`demo` has come up."""
    address = demo.address
    info = json.loads(Path(demo.folder, "lab.json").read_text(encoding="utf-8"))
    owners = {
        slug: Caller(address, owner, demo.secret(f"{owner}-password"))
        for slug, owner in OWNERS.items()
    }
    return Estate(
        demo,
        Caller(address, "operator", demo.secret("operator-password")),
        owners,
        PoolAsSeen(
            [host["url"] for host in info["hosts"]], demo.secret("lab-password"), info["control"]
        ),
    )
