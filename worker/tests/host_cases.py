"""The cases of workflows over hosts."""

from __future__ import annotations

from hosting import labels
from hosting.compute.services import release_container
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.operations.models import Operation
from worker.fencing.fake import FakeFence
from worker.hypervisor.port import NetworkSpec
from worker.tests.case import Case
from worker.tests.worlds import FENCES, World
from worker.workflows.evacuate import evacuate
from worker.workflows.recover_host import recover_host
from worker.workflows.return_host import return_host
from worker.workflows.sweep import sweep


class HostCase(Case):
    """Three hosts; two instances on the first, one on the second."""

    def __init__(self) -> None:
        self.world = World(device="eth1")
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


class SweepCase(Case):
    """An instance is over, and its VM and disks are still there; so is a network that nothing needs."""

    kind = sweep.kind

    def __init__(self) -> None:
        self.world = World(device="eth1")
        self.hypervisor = self.world.pool
        self.kept = self.world.add_instance(self.world.hosts[0])
        left = self.world.add_instance(self.world.hosts[1])
        assert left.vm_uuid is not None
        vdis = [str(vdi.uuid) for vdi in self.hypervisor.vdis() if str(left.pk) in vdi.name]
        release_container(left)
        unused = self.hypervisor.ensure_network(NetworkSpec("network-x", {labels.SEGMENT: "x"}))
        self.operation = Operation.objects.create(
            kind=self.kind,
            pool=self.world.row,
            requested_by="t",
            facts={"vms": [str(left.vm_uuid)], "vdis": vdis, "networks": [str(unused.uuid)]},
        )

    def assert_arrived(self) -> None:
        self.world.assert_runs_once(self.kept)
        assert len(self.hypervisor.vms_by_uuid) == 1
        assert self.hypervisor.disks() == self.world.disks_of(self.kept)
        assert len(self.hypervisor.networks()) == 1

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


class ReturnHostCase(HostCase):
    """An empty host in maintenance, as an evacuation leaves it."""

    kind = return_host.kind

    def __init__(self) -> None:
        self.world = World(device="eth1")
        self.hypervisor = self.world.pool
        self.host = self.world.hosts[0]
        Host.objects.filter(pk=self.host.pk).update(state=HostState.MAINTENANCE)
        self.hypervisor.disable_host(self.host.pk)
        self.operation = Operation.objects.create(kind=self.kind, host=self.host, requested_by="t")

    def assert_arrived(self) -> None:
        assert self.state_and_enabled() == (HostState.ACCEPTING, True)

    def assert_left_nothing(self) -> None:
        assert self.state_and_enabled() == (HostState.MAINTENANCE, False)

    def state_and_enabled(self) -> tuple[str, bool]:
        self.host.refresh_from_db()
        return self.host.state, self.hypervisor.hosts_by_uuid[self.host.pk].enabled


HOST_CASES: tuple[type[Case], ...] = (EvacuateCase, RecoverHostCase, ReturnHostCase, SweepCase)
