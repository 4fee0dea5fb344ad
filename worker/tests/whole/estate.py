"""Everything but processes: rows, engine and driver on a lab's pool, with images from a real registry.

What processes do between themselves is one call here: `settle` rings, advances, mirrors and reconciles until
nothing is due. The lab's clock runs fifty times as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.db.models.functions import Now

from deploy.lab.registry.app import Registry
from deploy.lab.testing import RunningLab
from hosting import labels
from hosting.catalog.models import Image
from hosting.catalog.services import import_image
from hosting.compute.models import Container, Instance
from hosting.compute.services import Sizes, create_container
from hosting.fleet.models import Host, Pool
from hosting.fleet.services import store_bmc
from hosting.operations.choices import ENDED, State
from hosting.operations.models import Operation
from tenants.models import Tenant
from tenants.tests.makers import make_tenant
from worker import engine
from worker.connections import Connections
from worker.enrolment import enrol, see_certificate
from worker.fencing.hosts import see_bmc_certificate
from worker.follower import Follower
from worker.hypervisor.port import Hypervisor, HypervisorError
from worker.machines import ROLES
from worker.reconcile.instances.run import reconcile_instances

MIB = 2**20
PATIENCE = 75.0
"""Seconds until what should have come about is given up."""


@dataclass
class Estate:
    """`lab` is the world outside, `registry` holds the demonstration's images at `authority`."""

    lab: RunningLab
    registry: Registry
    authority: str
    pool: Pool
    tenant: Tenant
    connections: Connections

    @property
    def hypervisor(self) -> Hypervisor:
        return self.connections.of(self.pool)

    # asking -------------------------------------------------------------------------------------

    def image(self, reference: str = "web:1.0", name: str = "web") -> tuple[Image, Operation]:
        return import_image(
            tenant=self.tenant,
            name=name,
            reference=f"{self.authority}/{reference}",
            requested_by="t",
        )

    def imported(self) -> Image:
        image, operation = self.image()
        assert self.settle(operation).state == State.SUCCEEDED
        image.refresh_from_db()
        return image

    def container(self, image: Image, name: str = "app") -> tuple[Container, Operation]:
        return create_container(
            tenant=self.tenant,
            name=name,
            image=image,
            requested_by="t",
            sizes=Sizes(memory_bytes=128 * MIB, disk_bytes=64 * MIB),
        )

    def running(self, image: Image, name: str = "app") -> Instance:
        container, operation = self.container(image, name)
        assert self.settle(operation).state == State.SUCCEEDED
        return self.instance_of(container)

    # going on -----------------------------------------------------------------------------------

    def mirror(self) -> None:
        """As the follower would at its next word from the pool."""
        Pool.objects.update(followed_until=Now())
        Follower(self.pool.pk, lambda pool: self.connections.of(pool).watcher()).once()

    def mirror_until(self, seen: Callable[[], bool]) -> None:
        """A guest tells of itself when it likes, which may be after its drivers are seen."""
        end = time.monotonic() + PATIENCE
        self.mirror()
        while not seen():
            assert time.monotonic() < end, "the pool never said so"
            self.mirror()

    def step(self) -> None:
        """All that is active does one round, whatever it waits for."""
        Operation.objects.active().update(run_at=Now(), leased_until=Now())
        for uuid in Operation.objects.active().order_by("created_at").values_list("pk", flat=True):
            engine.advance(uuid, self.connections.of)

    def settle(self, operation: Operation) -> Operation:
        """Until it has ended."""
        end = time.monotonic() + PATIENCE
        while True:
            self.step()
            operation.refresh_from_db()
            if operation.state in ENDED:
                return operation
            assert time.monotonic() < end, f"stuck: {_what_goes_on()}"

    def reconcile(self) -> int:
        """See the pool as it is, and begin what is missing."""
        self.mirror()
        # What was seen must be later than what ended; within a test's transaction all is one moment.
        Operation.objects.exclude(ended_at=None).update(ended_at=Now() - timedelta(seconds=1))
        return reconcile_instances()

    # looking ------------------------------------------------------------------------------------

    def instance_of(self, container: Container) -> Instance:
        return Instance.objects.select_related("host", "container").get(container=container)

    def vms(self) -> dict[str, str]:
        """Of ours: name → power state, as the pool has them now."""
        return {vm.name: vm.power_state for vm in self.hypervisor.vms() if vm.marker}

    def disks(self) -> set[str]:
        """Names of disks of ours, the images' own left out."""
        mine = (vdi for vdi in self.hypervisor.vdis() if vdi.marker)
        return {vdi.name for vdi in mine if not vdi.name.startswith("image-")}

    def disk_uuids(self, *, marked: bool = True) -> set[UUID]:
        """Of ours; or of all, since what a pool has lost it no longer knows to be ours."""
        return {vdi.uuid for vdi in self.hypervisor.vdis() if vdi.marker or not marked}

    def golden_disks(self) -> int:
        return sum(vdi.name.startswith("image-") for vdi in self.hypervisor.vdis() if vdi.marker)

    def host_of(self, instance: Instance) -> UUID | None:
        vm = self.hypervisor.find_vm(labels.instance_name(instance.pk))
        return None if vm is None else vm.resident_on

    def assert_runs_once(self, instance: Instance) -> Instance:
        """One VM and three disks of it, where the ledger says, and nobody ran twice."""
        now = Instance.objects.get(pk=instance.pk)
        name = labels.instance_name(now.pk)
        named = [vm for vm in self.hypervisor.vms() if vm.name == name]
        assert [(vm.uuid, vm.power_state, vm.resident_on) for vm in named] == [
            (now.vm_uuid, "Running", now.host_id)
        ]
        assert {labels.disk_name(now.pk, role) for role in ROLES} <= self.disks()
        self.assert_nothing_ran_twice()
        return now

    def assert_nothing_ran_twice(self) -> None:
        assert not self.lab.do(lambda lab: list(lab.detector.violations))

    def assert_nothing_is_left(self) -> None:
        """Neither in the pool nor in the ledger, but for images."""
        assert self.vms() == {}
        assert self.disks() == set()
        assert not Host.objects.exclude(memory_reserved_bytes=0)
        self.assert_nothing_ran_twice()

    # disasters ----------------------------------------------------------------------------------

    def set_fences(self) -> None:
        """Each host's own controller, as `manage.py set_bmc` would."""
        config = self.lab.lab.config
        for host in Host.objects.all():
            url = self.lab.bmc_url(host.name)
            certificate = see_bmc_certificate(url, None)
            store_bmc(
                host,
                url=f"{url}/redfish/v1/Systems/1",
                username=config.bmc_username,
                password=config.bmc_password,
                certificate=certificate.pem,
                actor="t",
            )

    def cut_power(self, host: Host) -> None:
        self.lab.do(lambda lab: lab.machine(host.name).power_off())


@contextmanager
def estate_on(lab: RunningLab, registry: Registry, authority: str) -> Iterator[Estate]:
    """The lab's pool enrolled, and a tenant. Afterwards the lab holds nothing of ours."""
    enrolled = enrol(
        name="lab",
        url=lab.url,
        username=lab.username,
        password=lab.password,
        certificate=see_certificate(lab.url),
    )
    made = Connections(_without_shared_sessions)
    estate = Estate(lab, registry, authority, enrolled.pool, make_tenant(containers=50), made)
    try:
        yield estate
    finally:
        lab.faults.clear()
        _tidy(estate)


def _without_shared_sessions(pool: Pool) -> Hypervisor:
    from worker.connections import connection_of, keep_candidates
    from worker.hypervisor import xapi

    return xapi.connect(connection_of(pool), candidates_changed=keep_candidates(pool.pk))


def _tidy(estate: Estate) -> None:
    try:
        pool = estate.hypervisor
        for vm in pool.vms():
            if vm.marker:
                pool.destroy_vm(vm.uuid)
        for vdi in pool.vdis():
            if vdi.marker:
                pool.destroy_vdi(vdi.uuid)
        for network in pool.networks():
            if network.marker:
                pool.destroy_network(network.uuid)
        pool.close()
    except HypervisorError:
        return  # a lab that a test has broken is thrown away by its fixture


def _what_goes_on() -> list[tuple[str, str, str, str]]:
    active = Operation.objects.active()
    return list(active.values_list("kind", "step", "trouble", "detail"))


def spool_in(folder: Path) -> dict[str, object]:
    """Settings under which workers may ask the lab's registry."""
    return {
        "IMAGE_SPOOL": str(folder),
        "IMAGE_ALLOWED_NETWORKS": ["127.0.0.0/8"],
        "IMAGE_PLAIN_HTTP_REGISTRIES": ["127.0.0.1"],
    }
