"""The cases of workflows over instances."""

from __future__ import annotations

from hosting.compute.models import Container, Instance
from hosting.compute.services import delete_container, resize_container
from hosting.operations.models import Operation
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from tenants.models import Quota
from worker.tests.case import Case
from worker.tests.worlds import World
from worker.workflows.adopt import adopt
from worker.workflows.migrate import migrate
from worker.workflows.provision import provision
from worker.workflows.resize import resize
from worker.workflows.restart import restart
from worker.workflows.start import start
from worker.workflows.stop import stop
from worker.workflows.teardown import teardown


class InstanceCase(Case):
    """An instance, on a host unless `is_new`, and the operation on it."""

    is_new = False

    def __init__(self) -> None:
        self.world = World(device="eth1")
        self.hypervisor = self.world.pool
        self.instance = self.world.add_instance(None if self.is_new else self.world.hosts[0])
        self.prepare()
        self.operation = self.ask()

    def prepare(self) -> None:
        """What else must be true before."""

    def ask(self) -> Operation:
        return Operation.objects.create(
            kind=self.kind, instance=self.world.again(self.instance), requested_by="t"
        )

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


class ProvisionCase(InstanceCase):
    kind = provision.kind
    is_new = True

    def assert_arrived(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert now.published_at is not None
        assert self.hypervisor.starts == [now.vm_uuid]

    def assert_left_nothing(self) -> None:
        self.world.assert_nothing_of(self.instance)
        assert self.world.again(self.instance).pool is None


class WarmProvisionCase(ProvisionCase):
    """A blank of its size is ready on the second host."""

    def prepare(self) -> None:
        self.world.boot_directly()
        self.blank = self.world.add_blank(self.world.hosts[1])
        assert self.hypervisor.runs == []

    def assert_arrived(self) -> None:
        """In the blank, or, where something was refused, in a VM of its own and the blank is gone."""
        now = self.world.assert_runs_once(self.instance)
        assert now.published_at is not None
        assert self.hypervisor.runs == [now.vm_uuid]
        assert self.hypervisor.starts in ([], [now.vm_uuid])
        assert list(self.hypervisor.vms_by_uuid) == [now.vm_uuid]
        assert self.hypervisor.disks() == self.world.disks_of(now)
        assert self.hypervisor.args[now.vm_uuid] == "quiet"
        blank = Blank.objects.get(pk=self.blank.pk)
        assert (blank.state, blank.instance) == (BlankState.ENDED, now)
        assert (blank.vm_uuid == now.vm_uuid) == (not self.hypervisor.starts)

    def assert_left_nothing(self) -> None:
        """Not even the blank, unless it was never taken."""
        if Blank.objects.get(pk=self.blank.pk).state == BlankState.READY:
            self.hypervisor.destroy_vm(self.blank.vm_uuid)
            self.hypervisor.destroy_vdi(self.blank.disk_uuid)
        super().assert_left_nothing()
        assert self.hypervisor.runs == []


class StopCase(InstanceCase):
    kind = stop.kind

    def assert_arrived(self) -> None:
        assert self.world.host_of(self.instance) is None
        assert self.world.again(self.instance).host is None
        assert len(self.world.disks_of(self.instance)) == 3
        self.world.assert_ledger_is_right()


class StartCase(InstanceCase):
    kind = start.kind

    def prepare(self) -> None:
        self.hypervisor.end(self.instance.vm_uuid)
        Instance.objects.all().leave_host(self.instance)

    def assert_arrived(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert self.hypervisor.starts == [now.vm_uuid]

    def assert_left_nothing(self) -> None:
        assert self.world.host_of(self.instance) is None
        assert self.world.again(self.instance).host is None
        assert len(self.world.disks_of(self.instance)) == 3
        self.world.assert_ledger_is_right()


class RestartCase(InstanceCase):
    kind = restart.kind

    def assert_arrived(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert self.hypervisor.starts == [now.vm_uuid]
        assert now.host == self.world.hosts[0]


class ResizeCase(InstanceCase):
    kind = resize.kind
    bytes = 512 * 2**20

    def ask(self) -> Operation:
        container = self.instance.container
        return resize_container(container=container, memory_bytes=self.bytes, requested_by="t")

    def assert_arrived(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert now.memory_bytes == now.container.memory_bytes == self.bytes
        assert self.hypervisor.starts == [now.vm_uuid]

    def assert_left_nothing(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert now.memory_bytes == now.container.memory_bytes == self.instance.memory_bytes
        assert not self.hypervisor.starts


class TeardownCase(InstanceCase):
    kind = teardown.kind

    def ask(self) -> Operation:
        return delete_container(container=self.instance.container, requested_by="t")

    def assert_arrived(self) -> None:
        self.world.assert_nothing_of(self.instance)
        assert not Container.objects.all().owned_by(self.world.tenant)
        assert Quota.objects.get(tenant=self.world.tenant).containers_used == 0


class MigrateCase(InstanceCase):
    kind = migrate.kind

    def assert_arrived(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert now.host != self.world.hosts[0]
        assert self.hypervisor.moves == [(now.vm_uuid, now.host_id)]
        assert not self.hypervisor.starts

    def assert_left_nothing(self) -> None:
        now = self.world.assert_runs_once(self.instance)
        assert now.host == self.world.hosts[0]
        assert not self.hypervisor.moves


class AdoptCase(InstanceCase):
    """Somebody moved it by other means."""

    kind = adopt.kind

    def prepare(self) -> None:
        self.world.stray(self.instance, self.world.hosts[1])

    def assert_arrived(self) -> None:
        assert self.world.assert_runs_once(self.instance).host == self.world.hosts[1]
        assert not self.hypervisor.moves
        assert not self.hypervisor.starts


INSTANCE_CASES: tuple[type[Case], ...] = (
    ProvisionCase,
    StopCase,
    StartCase,
    RestartCase,
    ResizeCase,
    TeardownCase,
    MigrateCase,
    AdoptCase,
)
