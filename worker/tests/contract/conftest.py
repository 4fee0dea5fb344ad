"""One suite for every pool that speaks XAPI: the lab always, and the pool in XAPI_URL when set.

    XAPI_URL                      https://address of the master
    XAPI_USERNAME                 default root
    XAPI_PASSWORD[_FILE]
    XAPI_FINGERPRINT              SHA-256 of the master's certificate, "AB:CD:…"
    XAPI_SOON                     seconds that one thing may take, default 20; emulated hosts need more
    XAPI_DESTRUCTIVE=1            also what disturbs others: disabling a host, another master

On a real pool only objects that a test made are touched, and they are removed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.lab.testing import RunningLab, running_lab
from worker.hypervisor.port import (
    Candidate,
    Gone,
    Hypervisor,
    Marker,
    PoolConnection,
    SrRecord,
    VbdSpec,
    VdiRecord,
    VdiSpec,
    VmRecord,
    VmSpec,
)
from worker.hypervisor.xapi import connect, is_same_fingerprint, read_certificate

LAB_RATE = 50.0
"""Lab seconds per second: a guest boots in the blink of an eye, a timeout of ours stays ours."""

MIB = 1024 * 1024
SOON = timedelta(seconds=float(os.environ.get("XAPI_SOON", "20")))


@dataclass
class Place:
    """A pool under test, and how to reach it once more."""

    hypervisor: Hypervisor
    connection: PoolConnection
    lab: RunningLab | None
    connect: Callable[..., Hypervisor]

    def shared_sr(self) -> SrRecord:
        attached = {pbd.sr for pbd in self.hypervisor.pbds() if pbd.currently_attached}
        for sr in self.hypervisor.srs():
            if sr.shared and sr.content_type != "iso" and sr.uuid in attached:
                return sr
        pytest.skip("the pool has no shared SR")

    def master(self) -> UUID:
        master = self.hypervisor.pool().master
        assert master is not None
        return master

    def slaves(self, count: int) -> list[UUID]:
        master = self.master()
        found = [h.uuid for h in self.hypervisor.hosts() if h.uuid != master and h.enabled]
        if len(found) < count:
            pytest.skip(f"the pool has not {count} enabled slaves")
        return found[:count]


class Workshop:
    """Makes objects under names of this test alone, and removes them again."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.instance = uuid4()
        self.marker: Marker = {
            "hosting:instance": str(self.instance),
            "hosting:operation": str(uuid4()),
        }

    def name(self, what: str = "") -> str:
        return f"contract-{self.instance}{what and '-'}{what}"

    def vdi(self, what: str = "disk", mib: int = 8, sr: UUID | None = None) -> VdiRecord:
        spec = VdiSpec(self.name(what), self.marker, sr or self.place.shared_sr().uuid, mib * MIB)
        return self.place.hypervisor.ensure_vdi(spec)

    def vm(self, what: str = "vm", memory_mib: int = 256, **fields: Any) -> VmRecord:
        spec = VmSpec(self.name(what), self.marker, memory_mib * MIB, 1, **fields)
        return self.place.hypervisor.ensure_vm(spec)

    def vm_with_disk(self, what: str = "vm", sr: UUID | None = None) -> VmRecord:
        vm, vdi = self.vm(what), self.vdi(f"{what}-disk", sr=sr)
        self.place.hypervisor.ensure_vbd(VbdSpec(vm.uuid, vdi.uuid, 0, bootable=True))
        return vm

    def running(self, host: UUID, what: str = "vm", sr: UUID | None = None) -> VmRecord:
        vm, hypervisor = self.vm_with_disk(what, sr), self.place.hypervisor
        hypervisor.wait(hypervisor.start_on(vm.uuid, host), SOON)
        return hypervisor.vm(vm.uuid)

    def booted(self, host: UUID, what: str = "vm", sr: UUID | None = None) -> VmRecord:
        """Running, and its guest's drivers have shown up: now it can be moved and asked to stop."""
        vm, watcher = self.running(host, what, sr), self.place.hypervisor.watcher()
        deadline = time.monotonic() + SOON.total_seconds()
        while time.monotonic() < deadline:
            for record in watcher.changes(timedelta(seconds=1)).records:
                if isinstance(record, VmRecord) and record.uuid == vm.uuid and has_booted(record):
                    return record
        pytest.fail("the guest's drivers were never seen")

    def clean_up(self) -> None:
        hypervisor = self.place.hypervisor
        for vm in hypervisor.vms():
            if vm.marker.get("hosting:instance") == str(self.instance):
                hypervisor.destroy_vm(vm.uuid)
        for vdi in hypervisor.vdis():
            if vdi.marker.get("hosting:instance") == str(self.instance):
                hypervisor.destroy_vdi(vdi.uuid)
        for network in hypervisor.networks():
            if network.marker.get("hosting:instance") == str(self.instance):
                hypervisor.destroy_network(network.uuid)


def has_booted(vm: VmRecord) -> bool:
    return vm.guest is not None and vm.guest.pv_drivers_detected


def lab_connection(lab: RunningLab) -> PoolConnection:
    candidates = tuple(
        Candidate(url.removeprefix("https://"), certificate)
        for url, certificate in zip(lab.urls, lab.certificates, strict=True)
    )
    return PoolConnection("contract", lab.url, lab.username, lab.password, candidates)


def real_connection() -> PoolConnection:
    url = os.environ["XAPI_URL"]
    certificate = read_certificate(url)
    expected = os.environ.get("XAPI_FINGERPRINT", "")
    if not is_same_fingerprint(certificate.fingerprint, expected):
        pytest.exit(f"XAPI_FINGERPRINT is not that of {url}, which is {certificate.fingerprint}")
    file = os.environ.get("XAPI_PASSWORD_FILE")
    password = Path(file).read_text().strip() if file else os.environ["XAPI_PASSWORD"]
    candidate = Candidate(url.removeprefix("https://"), certificate.pem)
    username = os.environ.get("XAPI_USERNAME", "root")
    return PoolConnection("contract", url, username, password, (candidate,))


@contextmanager
def place_at(connection: PoolConnection, lab: RunningLab | None) -> Iterator[Place]:
    with ExitStack() as stack:

        def another(changed: PoolConnection = connection, **options: Any) -> Hypervisor:
            hypervisor = connect(changed, **options)
            stack.callback(hypervisor.close)
            return hypervisor

        yield Place(another(), connection, lab, another)


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[RunningLab]:
    with running_lab(hosts=3, rate=LAB_RATE) as lab:
        yield lab


WHERE = ["lab", "real"] if "XAPI_URL" in os.environ else ["lab"]


@pytest.fixture(params=WHERE)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Any pool. Tests leave it as they found it."""
    if request.param == "real":
        with place_at(real_connection(), None) as found:
            yield found
        return
    lab: RunningLab = request.getfixturevalue("shared_lab")
    with place_at(lab_connection(lab), lab) as found:
        yield found
    lab.do(lambda inside: inside.faults.clear())


@pytest.fixture
def workshop(place: Place) -> Iterator[Workshop]:
    workshop = Workshop(place)
    yield workshop
    workshop.clean_up()


@pytest.fixture
def destructive(place: Place) -> None:
    if place.lab is None and os.environ.get("XAPI_DESTRUCTIVE") != "1":
        pytest.skip("disturbs the pool: set XAPI_DESTRUCTIVE=1")


@pytest.fixture
def lab(place: Place) -> RunningLab:
    """The lab under the place, for faults; elsewhere the test is skipped."""
    if place.lab is None:
        pytest.skip("only a lab can be made to fail on demand")
    return place.lab


@pytest.fixture
def own_lab() -> Iterator[Place]:
    """A lab that the test may break."""
    with (
        running_lab(hosts=3, rate=LAB_RATE) as lab,
        place_at(lab_connection(lab), lab) as place,
    ):
        yield place


def read_back(place: Place, vdi: UUID) -> bytes:
    """The whole disk."""
    return b"".join(place.hypervisor.export_vdi(vdi, timeout=SOON))


def is_gone(look: Callable[[UUID], object], uuid: UUID) -> bool:
    try:
        look(uuid)
    except Gone:
        return True
    return False
