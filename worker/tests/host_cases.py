"""The cases of workflows over hosts."""

from __future__ import annotations

from hosting.fleet.choices import HostState
from hosting.operations.models import Operation
from worker.fencing.fake import FakeFence
from worker.tests.case import Case
from worker.tests.worlds import FENCES, World
from worker.workflows.evacuate import evacuate
from worker.workflows.recover_host import recover_host


class HostCase(Case):
    """Three hosts; two instances on the first, one on the second."""

    def __init__(self) -> None:
        self.world = World()
        self.hypervisor = self.world.pool
        self.host = self.world.hosts[0]
        self.there = [self.world.add_instance(self.host) for _ in range(2)]
        self.other = self.world.add_instance(self.world.hosts[1])
        self.prepare()
        self.operation = Operation.objects.create(kind=self.kind, host=self.host, requested_by="t")

    def prepare(self) -> None:
        """What else must be true before."""

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")

    def assert_all_run_elsewhere(self) -> None:
        for instance in self.there:
            assert self.world.assert_runs_once(instance).host != self.host
        assert self.world.assert_runs_once(self.other).host == self.world.hosts[1]
        self.host.refresh_from_db()
        assert self.host.memory_reserved_bytes == 0


class EvacuateCase(HostCase):
    kind = evacuate.kind

    def assert_arrived(self) -> None:
        self.assert_all_run_elsewhere()
        assert not self.hypervisor.starts
        assert self.host.state == HostState.MAINTENANCE
        assert not self.hypervisor.hosts_by_uuid[self.host.pk].enabled

    def assert_left_nothing(self) -> None:
        self.host.refresh_from_db()
        assert self.host.state == HostState.ACCEPTING
        assert self.hypervisor.hosts_by_uuid[self.host.pk].enabled
        assert not self.hypervisor.starts
        assert len(self.hypervisor.running) == 3
        self.world.assert_ledger_is_right()


class RecoverHostCase(HostCase):
    """Its power fails; `is_off` or not, nobody hears of it any more."""

    kind = recover_host.kind

    def prepare(self) -> None:
        self.hypervisor.fall_silent(self.host.pk)
        self.hypervisor.master = self.world.hosts[2].pk
        self.fence = FakeFence(on_power_off=lambda: self.hypervisor.cut_power(self.host.pk))
        FENCES[self.host.pk] = self.fence

    def assert_arrived(self) -> None:
        assert not self.fence.powered
        self.assert_all_run_elsewhere()
        # A start that was refused halfway is undone and done again, after that.
        assert set(self.hypervisor.starts) == {one.vm_uuid for one in self.there}
        assert self.host.state == HostState.DEAD


HOST_CASES: tuple[type[Case], ...] = (EvacuateCase, RecoverHostCase)
