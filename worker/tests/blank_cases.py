"""The cases of workflows over blanks."""

from __future__ import annotations

from hosting import labels
from hosting.operations.models import Operation
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from worker.tests.case import Case
from worker.tests.worlds import World
from worker.workflows.discard_blank import discard_blank
from worker.workflows.prepare_blank import prepare_blank


class BlankCase(Case):
    def __init__(self) -> None:
        self.world = World()
        self.world.boot_directly()
        self.hypervisor = self.world.pool
        self.blank = self.make(self.world)
        self.operation = Operation.objects.create(
            kind=self.kind, blank=self.blank, requested_by="t"
        )

    def make(self, world: World) -> Blank:
        return world.ask_for_blank(world.hosts[0])

    def assert_left_nothing(self) -> None:
        now = Blank.objects.get(pk=self.blank.pk)
        assert (now.state, now.reserved_bytes) == (BlankState.ENDED, 0)
        assert not self.hypervisor.vms_by_uuid
        assert not self.hypervisor.disks()
        self.world.assert_ledger_is_right()


class PrepareBlankCase(BlankCase):
    kind = prepare_blank.kind

    def assert_arrived(self) -> None:
        now = Blank.objects.get(pk=self.blank.pk)
        (vm,) = self.hypervisor.vms()
        assert (now.state, now.vm_uuid) == (BlankState.READY, vm.uuid)
        assert (vm.power_state, vm.resident_on) == ("Paused", self.world.hosts[0].pk)
        assert (vm.memory_bytes, vm.vcpus) == (now.memory_bytes, now.vcpus)
        assert [vbd.vdi for vbd in self.hypervisor.vbds(vm.uuid)] == [now.disk_uuid]
        assert self.hypervisor.disks() == {labels.blank_disk_name(now.pk)}
        assert now.reserved_bytes > now.memory_bytes
        assert self.hypervisor.starts == [vm.uuid]
        assert self.hypervisor.runs == []
        self.world.assert_ledger_is_right()


class DiscardBlankCase(BlankCase):
    kind = discard_blank.kind

    def make(self, world: World) -> Blank:
        return world.add_blank(world.hosts[0])

    def assert_arrived(self) -> None:
        super().assert_left_nothing()

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


BLANK_CASES: tuple[type[Case], ...] = (PrepareBlankCase, DiscardBlankCase)
