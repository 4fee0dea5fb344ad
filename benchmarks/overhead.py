"""What durable operations cost: VM starts per second through Bulkhead against a script on the same pool.

    python -m benchmarks.overhead [--short]

One pool of 64 hosts with 1,000 VMs, served over TLS by a lab in a process of its own. On it, in turns,
equally many VMs are made and started by a hand-written XenAPI script (`benchmarks/handwritten.py`) and by
Bulkhead: a POST to the REST API, with a token, to the operation's success. What is made is the same: a
clone of a golden disk, a scratch disk, a config disk that is filled, a VM with the three of them, started,
its guest's drivers seen. So many VMs are under way at a time on either side.

While the script runs, Bulkhead's processes stand still. Calls and the moments of `VM.start_on` are counted
in the lab.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from benchmarks import metered_lab
from benchmarks.control_plane import (
    Client,
    Plane,
    Wish,
    assert_durable,
    control_plane,
    furnish,
    migrate,
    servers,
)
from benchmarks.handwritten import Job, make_all
from benchmarks.metered_lab import Metered, MeteredLab
from benchmarks.report import report
from deploy.lab.samples import MIB

GOAL = 0.9
GOAL_ADDED_MS = 25.0
HOSTS, VMS = 64, 1000
WORKERS = 4
AT_A_TIME = 4
MEMORY, SCRATCH = 128 * MIB, 64 * MIB
# As long as what Bulkhead writes there.
CONFIG = b"x" * 200
LOOK_SECONDS = 0.01


@dataclass
class Side:
    """One of the two that make VMs: what was measured of it."""

    name: str
    rates: list[float] = field(default_factory=list)
    """VMs per second, by round."""
    loaded: list[float] = field(default_factory=list)
    """Seconds from accepted (begun) to VM.start_on, with others under way."""
    alone: list[float] = field(default_factory=list)
    """The same, one VM at a time."""
    calls: Counter[str] = field(default_factory=Counter)
    cpu: Counter[str] = field(default_factory=Counter)
    """Milliseconds, by process: of the rounds, so that a busy machine is told from a slow program."""
    made: int = 0

    def count(self, metered: Metered, vms: int) -> None:
        self.calls += metered.work
        self.made += vms

    def cpu_per_vm(self, vms: int) -> float:
        told = ", ".join(f"{name} {spent / vms:.1f}" for name, spent in self.cpu.items())
        total = self.cpu.total() / vms
        print(f"{self.name:<9} {total:.1f} ms of CPU per VM: {told}")
        return total

    @property
    def calls_per_vm(self) -> float:
        return self.calls.total() / self.made

    def show(self) -> None:
        for what, seconds in (("alone", self.alone), (f"{AT_A_TIME} at a time", self.loaded)):
            print(
                f"{self.name:<9} to VM.start_on, {what}: p50 {percentile(seconds, 50):.1f} ms,"
                f" p99 {percentile(seconds, 99):.1f} ms ({len(seconds)} VMs)"
            )
        told = ", ".join(
            f"{name} {count / self.made:.2f}" for name, count in sorted(self.calls.items())
        )
        print(f"{self.name:<9} {self.calls_per_vm:.1f} calls per VM: {told}")


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3


class Bench:
    def __init__(self, lab: MeteredLab, plane: Plane, wish: Wish) -> None:
        self._lab = lab
        self._plane = plane
        self._wish = wish
        self._job = Job(
            lab.url, metered_lab.PASSWORD, lab.golden, wish.memory, wish.scratch, CONFIG
        )
        self._numbers = 0
        self.script = Side("script")
        self.ours = Side("bulkhead")

    def pair(self, vms: int) -> None:
        """A round of each."""
        self.script_round(vms)
        self.our_round(vms)

    def warm_up(self) -> None:
        """Connections, caches and interpreters; nothing of it counts."""
        self.pair(AT_A_TIME)
        self.script, self.ours = Side("script"), Side("bulkhead")

    # the script ---------------------------------------------------------------------------------

    def script_round(self, vms: int) -> None:
        before = time.process_time()
        took, gaps = self._script(vms, AT_A_TIME)
        self.script.cpu += _milliseconds({"script": time.process_time() - before})
        self.script.rates.append(vms / took)
        self.script.loaded += gaps

    def script_alone(self, vms: int) -> None:
        self.script.alone += self._script(vms, 1)[1]

    def _script(self, vms: int, threads: int) -> tuple[float, list[float]]:
        names = self._names("script", vms)
        with self._plane.processes.standing_still():
            self._lab.take()
            began = time.monotonic()
            made = make_all(self._job, names, threads)
            metered = self._lab.take()
        self.script.count(metered, vms)
        if threads > 1:
            self.script.cpu += _milliseconds({"lab": metered.cpu})
        self._await_mirror(names[-1])
        return made.ended - began, [metered.starts[name] - made.began[name] for name in names]

    # ours ---------------------------------------------------------------------------------------

    def our_round(self, vms: int) -> None:
        before = self._plane.processes.cpu_seconds()
        took, gaps = self._ours(vms, AT_A_TIME)
        after = self._plane.processes.cpu_seconds()
        self.ours.cpu += _milliseconds({role: after[role] - before[role] for role in after})
        self.ours.rates.append(vms / took)
        self.ours.loaded += gaps

    def ours_alone(self, vms: int) -> None:
        for _ in range(vms):
            self.ours.alone += self._ours(1, 1)[1]

    def _ours(self, vms: int, at_a_time: int) -> tuple[float, list[float]]:
        """Ask for so many, with a bound on those asked for whose guest is not up.

        Like the script's threads, the clients ask side by side: each has a connection of its own.
        """
        names = self._names("ours", vms)
        clients = [self._plane.client(self._wish) for _ in range(at_a_time)]
        idle = queue.SimpleQueue[Client]()
        for client in clients:
            idle.put(client)

        def ask(name: str) -> tuple[str, float]:
            client = idle.get()
            try:
                return client.create(name), time.monotonic()
            finally:
                idle.put(client)

        self._lab.take()
        already = self._lab.booted()
        began = time.monotonic()
        with ThreadPoolExecutor(at_a_time) as threads:
            asked = []
            for number, name in enumerate(names):
                self._await_booted(already + number - at_a_time + 1)
                asked.append(threads.submit(ask, name))
            accepted = dict(future.result() for future in asked)
        self._await_booted(already + vms)
        clients[0].await_successes(accepted)
        took = time.monotonic() - began
        metered = self._lab.take()
        self.ours.count(metered, vms)
        if at_a_time > 1:
            self.ours.cpu += _milliseconds({"lab": metered.cpu})
        starts = _starts_of(accepted, metered)
        return took, [starts[uuid] - moment for uuid, moment in accepted.items()]

    def _await_booted(self, guests: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while (now := self._lab.booted()) < guests:
            self._plane.processes.assert_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{now} guests of {guests} were up after {seconds:.0f} s")
            time.sleep(LOOK_SECONDS)

    def _await_mirror(self, name: str, seconds: float = 60) -> None:
        """The follower has caught up with what was made while it stood still."""
        from hosting.fleet.models import VirtualMachine

        made = VirtualMachine.objects.filter(name=name, power_state="Running")
        deadline = time.monotonic() + seconds
        while not made.exists():
            self._plane.processes.assert_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the follower did not see {name} for {seconds:.0f} s")
            time.sleep(0.05)

    def _names(self, kind: str, count: int) -> list[str]:
        self._numbers += count
        return [f"{kind}-{self._numbers - n}" for n in range(count)]


def _starts_of(accepted: Mapping[str, float], metered: Metered) -> dict[str, float]:
    """Operation → when the first VM.start_on for its instance came to the pool."""
    from hosting.labels import instance_name
    from hosting.operations.models import Operation

    found = Operation.objects.filter(pk__in=list(accepted)).values_list("pk", "instance_id")
    return {
        str(uuid): metered.starts[instance_name(UUID(str(instance)))] for uuid, instance in found
    }


def _milliseconds(seconds: Mapping[str, float]) -> Counter[str]:
    return Counter({name: round(spent * 1e3) for name, spent in seconds.items()})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="under a minute")
    short = parser.parse_args().short
    pairs, vms, alone = (5, 16, 8) if short else (7, 64, 40)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkhead-bench-")))
        being = stack.enter_context(metered_lab.metered_lab(HOSTS, VMS))
        environment = stack.enter_context(servers(folder))
        os.environ.update(environment)
        migrate()
        print(f"PostgreSQL: {assert_durable()}; {os.cpu_count()} cores")
        lab = being.ready()
        wish = furnish(lab.url, metered_lab.PASSWORD, lab.golden, memory=MEMORY, scratch=SCRATCH)
        plane = stack.enter_context(control_plane(environment, folder, WORKERS))
        return measure(Bench(lab, plane, wish), lab, pairs, vms, alone)


def measure(bench: Bench, lab: MeteredLab, pairs: int, vms: int, alone: int) -> int:
    print(
        f"{HOSTS} hosts, {VMS} VMs, {pairs} pairs of {vms} VMs, {AT_A_TIME} at a time,"
        f" {WORKERS} Celery workers; lab: start {metered_lab.START} s, boot {metered_lab.BOOT} s,"
        f" each thing a storage backend does {metered_lab.STORAGE} s, upload"
        f" {metered_lab.UPLOAD} s; seed {metered_lab.SEED}"
    )
    bench.warm_up()
    bench.script_alone(alone)
    bench.ours_alone(alone)
    for _ in range(pairs):
        bench.pair(vms)
    script, ours = bench.script, bench.ours
    for side in (script, ours):
        side.show()
    spent = {side.name: side.cpu_per_vm(pairs * vms) for side in (script, ours)}
    cpu, memory = lab.usage()
    print(
        f"lab       {cpu:.1f} s CPU in all, {memory / 2**20:.0f} MiB, 0 errors;"
        f" load of the machine {os.getloadavg()[0]:.1f}"
    )
    added = {
        f"added_p{percent}_ms": round(
            percentile(ours.alone, percent) - percentile(script.alone, percent), 1
        )
        for percent in (50, 99)
    }
    met = report(
        "overhead.starts_per_second",
        unit="VM/s",
        values=ours.rates,
        baselines=script.rates,
        goal=GOAL,
        higher_is_better=True,
        more={
            "calls_per_vm": round(ours.calls_per_vm, 2),
            "calls_per_vm_script": round(script.calls_per_vm, 2),
            "cpu_ms_per_vm": round(spent[ours.name], 1),
            "cpu_ms_per_vm_script": round(spent[script.name], 1),
            "raw_p50_ms": round(percentile(ours.alone, 50), 1),
            "raw_p99_ms": round(percentile(ours.alone, 99), 1),
            **added,
            "goal_added_p50_ms": GOAL_ADDED_MS,
            "met_added": added["added_p50_ms"] <= GOAL_ADDED_MS,
        },
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
