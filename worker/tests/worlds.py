"""A small world for workflows: a pool with hosts and shared storage, a tenant, an image, instances."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models.functions import Now

from hosting import labels
from hosting.catalog.models import ImageVersion
from hosting.catalog.tests.makers import make_golden_disk, make_image
from hosting.compute.models import Instance
from hosting.compute.tests.makers import make_instance
from hosting.fleet.models import Host, Pbd, Pool, StorageRepository
from hosting.fleet.tests.makers import GIB, make_host, make_pool
from hosting.networks.models import Segment
from hosting.warm.models import Blank
from hosting.warm.tests.makers import SIZES
from tenants.models import Quota
from tenants.tests.makers import make_tenant
from worker import blanks
from worker.fencing.port import Fence
from worker.hypervisor.port import GuestMetrics, NetworkSpec
from worker.machines import ROLES, build_disks, build_vm
from worker.nics import take_nic
from worker.placement import overhead_bytes
from worker.tests.fakepool import FakePool
from worker.workflow import Spawn, Wait

MIB = 2**20
FENCES: dict[UUID, Fence] = {}
"""The power switches of hosts, in tests (worker/tests/conftest.py)."""


REGISTRY: dict[str, Any] = {}
"""What stands for worker.images in tests, under "now"."""


class World:
    """`pool` is what XAPI holds, the rows are what we do; both begin in step.

    `device` carries tenants' networks: the tenant's comes to be when something is put on it. "": there are none.
    """

    def __init__(self, *, hosts: int = 3, device: str = "") -> None:
        self.pool = FakePool()
        self.sr = uuid4()
        self.row = make_pool(default_sr_uuid=self.sr, network_device=device)
        StorageRepository.objects.create(
            uuid=self.sr, pool=self.row, name="shared", type="nfs", shared=True
        )
        self.hosts = [self.add_host(f"xen-{number}") for number in range(1, hosts + 1)]
        self.tenant = make_tenant(containers=50, memory_bytes=64 * GIB)
        image = make_image(self.tenant)
        assert image.current is not None
        self.version: ImageVersion = image.current
        self.golden = self.pool.add_golden(self.version.digest, self.sr)
        make_golden_disk(self.version, self.row, sr_uuid=self.sr, vdi_uuid=self.golden.uuid)

    def add_host(self, name: str) -> Host:
        host = make_host(self.row, name=name)
        Pbd.objects.create(pool=self.row, host=host, sr_id=self.sr, currently_attached=True)
        self.pool.add_host(host.pk, name=name)
        return host

    def add_instance(self, host: Host | None = None, **given: Any) -> Instance:
        """One that was just asked for; or, given a host, one that runs there, in rows and in fact."""
        instance = make_instance(self.tenant, **given)
        type(instance.container).objects.filter(pk=instance.container_id).update(
            version=self.version
        )
        if host is not None:
            self._run(instance, host)
        return self.again(instance)

    def _run(self, instance: Instance, host: Host) -> None:
        need = instance.memory_bytes + overhead_bytes(
            vcpus=instance.vcpus, memory_bytes=instance.memory_bytes
        )
        assert Instance.objects.all().take_host(instance, host.pk, need)
        instance = self.again(instance)
        facts: dict[str, Any] = {"golden": str(self.golden.uuid), "sr": str(self.sr)}
        nic = self._join(instance)
        if nic is not None:
            facts["nic"] = nic
        disks = build_disks(self.pool, instance, facts)  # type: ignore[arg-type]
        vm = build_vm(self.pool, instance, {**facts, "disks": disks})  # type: ignore[arg-type]
        self.pool.domains[host.pk].add(vm.uuid)
        guest = GuestMetrics(pv_drivers_detected=True)
        self.pool._set_vm(vm.uuid, power_state="Running", resident_on=host.pk, guest=guest)
        Instance.objects.filter(pk=instance.pk).update(
            vm_uuid=vm.uuid, published_at=Now(), started_at=Now()
        )

    def boot_directly(self) -> None:
        """As blanks need it."""
        boot = {"boot_mode": "pvh", "boot_kernel": "/boot/guest/vmlinuz", "boot_args": "quiet"}
        Pool.objects.filter(pk=self.row.pk).update(**boot)

    def ask_for_blank(self, host: Host, **given: Any) -> Blank:
        """One that nothing was made of yet."""
        size = {**asdict(SIZES), **given}
        return Blank.objects.create(pool=self.row, host=host, **size)

    def add_blank(self, host: Host, **given: Any) -> Blank:
        """One that is ready, in rows and in fact."""
        blank = self.ask_for_blank(host, **given)
        need = blank.memory_bytes + overhead_bytes(
            vcpus=blank.vcpus, memory_bytes=blank.memory_bytes
        )
        assert Blank.objects.all().reserve(blank, need)
        blank.refresh_from_db()
        disk = blanks.build_disk(self.pool, blank)  # type: ignore[arg-type]
        vm = blanks.build_vm(self.pool, blank, disk)  # type: ignore[arg-type]
        self.pool.domains[host.pk].add(vm.uuid)
        told = self.pool.booted(vm.uuid)
        guest = GuestMetrics(pv_drivers_detected=True)
        self.pool._set_vm(
            vm.uuid, power_state="Paused", resident_on=host.pk, guest=guest, vm_data=told
        )
        assert Blank.objects.all().note_ready(blank, vm.uuid, disk)
        return Blank.objects.get(pk=blank.pk)

    def _join(self, instance: Instance) -> Any:
        """Its interface, after its network was made as network.build does."""
        with transaction.atomic():
            nic = take_nic(instance)
            assert not isinstance(nic, Wait)
            if not isinstance(nic, Spawn):
                return nic
            (segment,) = nic.subjects
            self.make(segment)
            return take_nic(instance)

    def make(self, segment: Segment) -> None:
        """It is in the pool, and that is written down."""
        marker = {labels.SEGMENT: str(segment.pk), labels.TENANT: str(self.tenant.pk)}
        made = self.pool.ensure_network(NetworkSpec(labels.network_name(segment.pk), marker))
        self.pool.ensure_vlan(made.uuid, device=segment.device, tag=segment.tag)
        hosts = [host.pk for host in self.hosts]
        Segment.objects.all().note_made(segment, made.uuid, hosts)

    def stray(self, instance: Instance, host: Host) -> None:
        """Its VM is on `host`, which nobody here asked for."""
        vm = instance.vm_uuid
        assert vm is not None
        for domains in self.pool.domains.values():
            domains.discard(vm)
        self.pool.domains[host.pk].add(vm)
        self.pool._set_vm(vm, resident_on=host.pk)

    def again(self, instance: Instance) -> Instance:
        return Instance.objects.select_related("container__version", "container__tenant").get(
            pk=instance.pk
        )

    def host_of(self, instance: Instance) -> UUID | None:
        """Where it really runs."""
        return self.pool.running.get(labels.instance_name(instance.pk))

    def disks_of(self, instance: Instance) -> set[str]:
        """What there is of the disks it should have."""
        wanted = {labels.disk_name(instance.pk, role) for role in ROLES}
        return wanted & self.pool.disks()

    def assert_ledger_is_right(self) -> None:
        """What is reserved and used is what instances and blanks hold, nothing more and nothing less."""
        mine = Instance.objects.filter(container__tenant=self.tenant)
        living = list(mine.living().select_related("container"))
        for host in Host.objects.filter(pool=self.row):
            held = sum(
                one.reserved_bytes for one in living if host.pk in (one.host_id, one.target_id)
            )
            blank = Blank.objects.all().holding().filter(host=host)
            held += sum(blank.values_list("reserved_bytes", flat=True))
            assert host.memory_reserved_bytes == held, host.name
        quota = Quota.objects.get(tenant=self.tenant)
        holding = [one.container.holds(one) for one in living]
        for name in ("containers", "vcpus", "memory_bytes", "disk_bytes"):
            assert getattr(quota, f"{name}_used") == sum(one[name] for one in holding), name

    def assert_runs_once(self, instance: Instance) -> Instance:
        """Exactly one VM of it runs, where the ledger says so, with exactly its disks."""
        now = self.again(instance)
        assert now.host_id is not None
        assert self.host_of(now) == now.host_id
        assert now.target_id is None
        named = [vm for vm in self.pool.vms_by_uuid.values() if vm.name.endswith(str(now.pk))]
        assert [vm.uuid for vm in named] == [now.vm_uuid]
        assert len(self.disks_of(now)) == len(ROLES)
        assert (named[0].memory_bytes, named[0].vcpus) == (now.memory_bytes, now.vcpus)
        self._assert_has_its_address(now)
        self.assert_ledger_is_right()
        return now

    def _assert_has_its_address(self, instance: Instance) -> None:
        """One VIF on the one network of its tenant, which lets through its address and no other."""
        assert instance.vm_uuid is not None
        vifs = self.pool.vifs(instance.vm_uuid)
        if not self.row.network_device:
            assert (vifs, instance.ip) == ((), None)
            return
        (vif,) = vifs
        segment = Segment.objects.all().living().get(network=instance.network, pool=self.row)
        assert vif.network is not None
        assert (vif.network, vif.mac) == (segment.network_uuid, instance.mac)
        assert (vif.locking_mode, vif.ipv4_allowed) == ("locked", (instance.ip,))
        made = [one.uuid for one in self.pool.networks() if labels.SEGMENT in one.marker]
        assert made == [segment.network_uuid]
        assert self.pool.vlans[vif.network][:2] == (segment.device, segment.tag)

    def assert_nothing_of(self, instance: Instance) -> None:
        """The pool has nothing of it, and it holds no host."""
        now = self.again(instance)
        assert (now.host_id, now.target_id, now.reserved_bytes) == (None, None, 0)
        assert not self.pool.vms_by_uuid
        assert not self.pool.disks()
        assert not self.pool.vifs_by_uuid
        assert (now.ip is None) or not now.lives
        self.assert_ledger_is_right()
