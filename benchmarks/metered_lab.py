"""A lab's pool in a process of its own, filled beforehand, that counts what is asked of it and when.

Effects are counted where they happen: here, not in the database of whoever asks.
"""

from __future__ import annotations

import inspect
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from deploy.lab.dispatch import Dispatcher
from deploy.lab.faults import Faults
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.samples import MIB, vbd_record, vdi_record, vif_record, vm_record
from deploy.lab.storage import StorageTimes
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.xenopsd import Durations

PASSWORD = "bench"
GOLDEN_NAME = "golden"
SEED = 20
START, BOOT = 0.1, 0.3
# The storage's lock is one VM's at a time. It must not be what bounds both sides.
STORAGE, UPLOAD = 0.005, 0.02


@dataclass(frozen=True, slots=True)
class Metered:
    """What the pool was asked since the last look. Moments are of the monotonic clock."""

    calls: Counter[str]
    starts: dict[str, float]
    """Name of the VM → when its first `VM.start_on` arrived."""
    cpu: float
    """Seconds of CPU that the pool took for it."""

    @property
    def work(self) -> Counter[str]:
        """Without what followers and logins ask."""
        aside = ("event.from of classes", "session.", "host.")
        return Counter({name: n for name, n in self.calls.items() if not name.startswith(aside)})


class MeteredDispatcher(Dispatcher):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.calls: Counter[str] = Counter()
        self.starts: dict[str, float] = {}
        self.cpu = time.process_time()

    def call(
        self, machine: Machine, method: str, arguments: list[Any], via: str = "xmlrpc"
    ) -> Any | Awaitable[Any]:
        self.calls[_told_apart(method, arguments)] += 1
        if method.removeprefix("Async.") == "VM.start_on":
            vm = self.lab.db.find("VM", arguments[1])
            if vm is not None:
                self.starts.setdefault(vm.name_label, time.monotonic())
        return super().call(machine, method, arguments, via)

    def take(self) -> Metered:
        now = time.process_time()
        taken = Metered(self.calls, self.starts, now - self.cpu)
        self.calls, self.starts, self.cpu = Counter(), {}, now
        return taken


def _told_apart(method: str, arguments: list[Any]) -> str:
    """A follower's event.from is of whole classes; whoever waits for something names objects."""
    if method == "event.from" and not any("/" in name for name in arguments[1]):
        return "event.from of classes"
    return method


class MeteredFaults(Faults):
    """Sees requests that are not calls: uploads."""

    async def before(self, method: str, host: str) -> None:
        if " " in method:
            meter(self.lab).calls[method] += 1
        await super().before(method, host)


def meter(lab: Lab) -> MeteredDispatcher:
    assert isinstance(lab.dispatcher, MeteredDispatcher)
    return lab.dispatcher


class Booted:
    """How many guests have told of their drivers; counted again only after something changed."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._count = 0
        self._is_stale = True
        lab.db.listeners.append(self._changed)

    def _changed(self, cls: str) -> None:
        self._is_stale |= cls == "VM_guest_metrics"

    def count(self) -> int:
        if self._is_stale:
            told = self._lab.db.all("VM_guest_metrics")
            self._count = sum(metrics.PV_drivers_detected for metrics in told)
            self._is_stale = False
        return self._count


# ------------------------------------------------------------------------------- the process of the pool


def serve(hosts: int, vms: int, pipe: Connection) -> None:
    """Build the pool, say where it is, answer questions until it is ended from outside."""
    with running_lab(
        hosts=hosts,
        rate=2000.0,
        password=PASSWORD,
        seed=SEED,
        guest_boot_seconds=BOOT,
        durations=Durations(start=START),
        storage=StorageTimes(
            create=STORAGE, clone=STORAGE, update=STORAGE, attach=STORAGE, upload=UPLOAD
        ),
    ) as running:
        golden = running.wait(_populate(running, vms), timeout=600)
        booted = running.do(_meter)
        while running.do(lambda _: booted.count()) < vms:
            time.sleep(0.05)
        running.clock.set_rate(1.0)
        pipe.send((running.url, running.certificates[0], golden))
        while True:
            question = pipe.recv()
            if question == "take":
                pipe.send(running.do(lambda lab: meter(lab).take()))
            elif question == "booted":
                pipe.send(running.do(lambda _: booted.count()))
            else:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                pipe.send((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


def _meter(lab: Lab) -> Booted:
    lab.dispatcher = MeteredDispatcher(lab)
    lab.faults = MeteredFaults(lab)
    return Booted(lab)


async def _populate(running: RunningLab, vms: int) -> str:
    """VMs, each with a disk on a host's own storage and an interface; the golden disk's uuid."""
    lab = running.lab
    session = lab.sessions.open("root", PASSWORD, "benchmark", lab.coordinator)

    async def call(method: str, *arguments: Any) -> Any:
        result = lab.dispatcher.call(lab.coordinator, method, [session.ref, *arguments])
        return await result if inspect.isawaitable(result) else result

    (network,) = await call("network.get_all_where", 'field "bridge" = "xenbr0"')
    local = await call("SR.get_by_name_label", "Local storage")
    for number in range(vms):
        sr = local[number % len(local)]
        host = await call("PBD.get_host", (await call("SR.get_PBDs", sr))[0])
        vm = await call("VM.create", vm_record(f"vm-{number:05}"))
        vdi = await call("VDI.create", vdi_record(f"disk-{number:05}", sr, size=64 * MIB))
        await call("VBD.create", vbd_record(vm, vdi))
        await call("VIF.create", vif_record(vm, network))
        await call("VM.start_on", vm, host, False, False)
    golden = await call("VDI.create", vdi_record(GOLDEN_NAME, lab.pool.default_SR, size=64 * MIB))
    uuid: str = await call("VDI.get_uuid", golden)
    lab.sessions.close(session)
    return uuid


# ------------------------------------------------------------------------------------ seen from elsewhere


@dataclass(frozen=True)
class MeteredLab:
    url: str
    certificate: str
    golden: str
    _pipe: Connection

    def take(self) -> Metered:
        """What it was asked since the last look."""
        self._pipe.send("take")
        taken: Metered = self._pipe.recv()
        return taken

    def booted(self) -> int:
        """Guests that run and have told of their drivers."""
        self._pipe.send("booted")
        count: int = self._pipe.recv()
        return count

    def usage(self) -> tuple[float, int]:
        """Seconds of CPU and bytes of memory that it took."""
        self._pipe.send("usage")
        usage: tuple[float, int] = self._pipe.recv()
        return usage


class LabBeing:
    """A pool that is being built in its own process."""

    def __init__(self, hosts: int, vms: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=serve, args=(hosts, vms, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that its death is seen here as the end of the pipe

    def ready(self, seconds: float = 300) -> MeteredLab:
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"the pool was not ready after {seconds:.0f} s")
        url, certificate, golden = self._pipe.recv()
        return MeteredLab(url, certificate, golden, self._pipe)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(30)


@contextmanager
def metered_lab(hosts: int, vms: int) -> Iterator[LabBeing]:
    lab = LabBeing(hosts, vms)
    try:
        yield lab
    finally:
        lab.stop()
