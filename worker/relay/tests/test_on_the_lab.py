"""The relay reads a lab's consoles over TLS, through moves and reboots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest

from deploy.lab.testing import RunningLab, running_lab
from hosting.compute.output import last_lines
from hosting.fleet.models import VirtualMachine
from hosting.fleet.tests.makers import make_pool, make_vm
from worker.hypervisor.port import Hypervisor, VmRecord
from worker.hypervisor.xapi import connect
from worker.relay.guest import BURST_BYTES
from worker.relay.relay import Relay
from worker.tests.contract.conftest import LAB_RATE, SOON, Place, Workshop, lab_connection

pytestmark = pytest.mark.django_db(transaction=True)


class Watched:
    """One running VM on the lab, and the relay that reads its console."""

    def __init__(self, lab: RunningLab, hypervisor: Hypervisor) -> None:
        self.lab, self.hypervisor = lab, hypervisor
        workshop = Workshop(Place(hypervisor, lab_connection(lab), lab, connect))
        self.hosts = workshop.place.slaves(2)
        self.record = workshop.booted(self.hosts[0])
        self.instance = uuid4()
        self.pool = make_pool()
        self.relay = Relay(self.pool.pk, lambda _: hypervisor)
        self.mirror()
        self.await_lines("is up")

    def mirror(self) -> VmRecord:
        """What the follower would have written by now."""
        now = self.hypervisor.vm(self.record.uuid)
        VirtualMachine.objects.filter(pk=now.uuid).delete()
        make_vm(
            self.pool,
            uuid=now.uuid,
            instance_uuid=self.instance,
            resident_on_id=now.resident_on,
            started_at=now.started_at,
        )
        return now

    def write(self, data: bytes) -> None:
        uuid = str(self.record.uuid)
        self.lab.do(
            lambda lab: next(
                machine.domains[uuid]
                for machine in lab.machines.values()
                if uuid in machine.domains
            ).console.write(data)
        )

    def texts(self) -> list[str]:
        return [line.text for line in last_lines(self.instance)]

    def await_lines(self, end: str, seconds: float = 20) -> list[str]:
        self.await_that(lambda: any(text.endswith(end) for text in self.texts()[-1:]), seconds)
        return self.texts()

    def await_that(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.texts()
            self.relay.turn()


@pytest.fixture
def watched(servers: None) -> Iterator[Watched]:
    with running_lab(hosts=3, rate=LAB_RATE) as lab:
        hypervisor = connect(lab_connection(lab))
        watched = Watched(lab, hypervisor)
        yield watched
        watched.relay._leave()
        hypervisor.close()


def is_on(watched: Watched, host: UUID) -> bool:
    return watched.hypervisor.vm(watched.record.uuid).resident_on == host


def test_what_a_guest_writes_at_once_comes_whole(watched: Watched) -> None:
    """Much of it lies unpacked in TLS, where no selector sees it."""
    many = BURST_BYTES // 256 // 2
    watched.write(b"".join(b"%-126d|\r\n" % number for number in range(many)) + b"end\r\n")
    assert len(watched.await_lines("end")) == many + 2


def test_a_move_loses_and_doubles_nothing(watched: Watched) -> None:
    watched.write(b"before\r\n")
    watched.await_lines("before")
    task = watched.hypervisor.pool_migrate(watched.record.uuid, watched.hosts[1])
    watched.hypervisor.wait(task, SOON)
    watched.write(b"after\r\n")
    watched.mirror()
    assert is_on(watched, watched.hosts[1])
    assert watched.await_lines("after")[1:] == ["before", "after"]


def test_a_reboot_begins_anew(watched: Watched) -> None:
    (first,) = watched.texts()
    watched.hypervisor.wait(watched.hypervisor.hard_reboot(watched.record.uuid), SOON)
    watched.mirror()
    watched.await_that(lambda: watched.texts() == [first] * 2)
