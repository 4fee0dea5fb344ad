"""For each workflow, and each of its ways: how to begin it, and how to tell that it arrived or left nothing.

A workflow without a case here fails test_every_workflow.py.
"""

from __future__ import annotations

from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_pool
from hosting.operations.models import Operation
from worker.tests.blank_cases import BLANK_CASES
from worker.tests.case import Case
from worker.tests.host_cases import HOST_CASES
from worker.tests.image_cases import IMAGE_CASES
from worker.tests.instance_cases import INSTANCE_CASES, WarmProvisionCase
from worker.tests.network_cases import NETWORK_CASES
from worker.tests.shed import NEEDS, Shed, douse, furnish, furnish_all


class FurnishCase(Case):
    kind = furnish.kind

    def __init__(self) -> None:
        self.hypervisor = Shed()
        self.host = make_host()
        self.operation = Operation.objects.create(kind=self.kind, host=self.host, requested_by="t")

    def assert_arrived(self) -> None:
        assert self.hypervisor.lamps == {self.host.name: True}
        assert self.hypervisor.made == 1
        self.host.refresh_from_db()
        assert (self.host.memory_reserved_bytes, self.host.bmc_username) == (NEEDS, "lit")

    def assert_left_nothing(self) -> None:
        assert not self.hypervisor.lamps
        self.host.refresh_from_db()
        assert self.host.memory_reserved_bytes == 0


class FurnishAllCase(Case):
    kind = furnish_all.kind

    def __init__(self) -> None:
        self.hypervisor = Shed()
        self.pool = make_pool()
        for name in ("one", "two"):
            make_host(self.pool, name=name)
        self.operation = Operation.objects.create(kind=self.kind, pool=self.pool, requested_by="t")

    def assert_arrived(self) -> None:
        assert self.hypervisor.lamps == {"one": True, "two": True}
        assert Host.objects.filter(pool=self.pool, memory_reserved_bytes=NEEDS).count() == 2

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


class DouseCase(Case):
    kind = douse.kind

    def __init__(self) -> None:
        self.hypervisor = Shed(lamps={"xen-1": True})
        self.operation = Operation.objects.create(
            kind=self.kind, host=make_host(), requested_by="t"
        )

    def assert_arrived(self) -> None:
        assert not self.hypervisor.lamps

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


_ALL: tuple[type[Case], ...] = (
    FurnishCase,
    FurnishAllCase,
    DouseCase,
    *INSTANCE_CASES,
    *HOST_CASES,
    *IMAGE_CASES,
    *NETWORK_CASES,
    *BLANK_CASES,
)
CASES: dict[str, type[Case]] = {
    **{case.kind: case for case in _ALL},
    "instance.provision, warm": WarmProvisionCase,
}
