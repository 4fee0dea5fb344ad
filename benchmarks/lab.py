"""How fast the lab's pool answers, and whether that depends on how much is in it.

    python -m benchmarks.lab [--short]

Two pools of 64 hosts, each in a process of its own, one with 20 VMs and one with 2,000, each
with a disk, a network interface and event.from followers attached. The same mix of calls goes to
both in turn; the ratio is p50 at 2,000 VMs ÷ p50 at 20 VMs. Nothing of the pool's size should be
felt by a call about one object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.report import report
from deploy.lab.samples import vbd_record, vdi_record, vif_record, vm_record
from deploy.lab.testing import RunningLab, running_lab

GOAL = 1.5
HOSTS = 64
SMALL, LARGE = 20, 2000
FOLLOWERS = 4
SEED = 20


class Failed(Exception):
    """The pool answered an error, which the mix never asks for."""


class Client:
    """JSON-RPC over one kept connection: as little of the client in the figure as can be."""

    def __init__(self, address: str, port: int, password: str) -> None:
        self._connection = http.client.HTTPConnection(address, port, timeout=60)
        self.session = ""
        self.session = self.call("session.login_with_password", "root", password, "2.21", "bench")

    def call(self, method: str, *arguments: Any) -> Any:
        params = [self.session, *arguments] if self.session else list(arguments)
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        self._connection.request("POST", "/jsonrpc", body)
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']}")
        return answer["result"]


def serve(vms: int, pipe: Connection) -> None:
    """The process of one pool: build it, say where it listens, wait to be told to end."""
    with running_lab(hosts=HOSTS, tls=False, rate=2000.0, password="bench", seed=SEED) as lab:
        populate(lab, vms)
        lab.clock.set_rate(1.0)
        pipe.send((*lab.url.removeprefix("http://").split(":"), lab.password))
        pipe.recv()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


def populate(lab: RunningLab, vms: int) -> None:
    address, port = lab.url.removeprefix("http://").split(":")
    client = Client(address, int(port), lab.password)
    hosts = client.call("host.get_all")
    network = client.call("network.get_all_where", 'field "bridge" = "xenbr0"')[0]
    storage = client.call("SR.get_by_name_label", "Local storage")
    for number in range(vms):
        vm = client.call("VM.create", vm_record(f"vm-{number:05}"))
        sr = storage[number % len(storage)]
        vdi = client.call("VDI.create", vdi_record(f"disk-{number:05}", sr))
        client.call("VBD.create", vbd_record(vm, vdi))
        client.call("VIF.create", vif_record(vm, network))
        host = client.call("PBD.get_host", client.call("SR.get_PBDs", sr)[0])
        assert host in hosts
        client.call("VM.start_on", vm, host, False, False)


@dataclass
class Pool:
    """One of the two pools, seen from the load generator."""

    vms: int
    address: str
    port: int
    password: str
    pipe: Connection
    client: Client = field(init=False)
    rows: list[tuple[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    events: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    followers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = Client(self.address, self.port, self.password)
        records = self.client.call(
            "VM.get_all_records_where", 'field "is_control_domain" = "false"'
        )
        self.rows = [(ref, record["uuid"]) for ref, record in records.items() if record["VBDs"]]
        assert len(self.rows) == self.vms

    def burst(self, calls: int, dice: random.Random) -> list[float]:
        """Seconds of each of `calls` calls of the mix."""
        taken = []
        for _ in range(calls):
            ref, uuid = dice.choice(self.rows)
            method, *arguments = dice.choice(mix(ref, uuid, dice))
            start = time.perf_counter()
            self.client.call(method, *arguments)
            taken.append(time.perf_counter() - start)
        self.seconds += taken
        return taken

    def attach_followers(self) -> None:
        for _ in range(FOLLOWERS):
            follower = threading.Thread(target=self.follow, daemon=True)
            follower.start()
            self.followers.append(follower)

    def detach_followers(self) -> None:
        self.stop.set()
        for follower in self.followers:
            follower.join(10)

    def follow(self) -> None:
        client = Client(self.address, self.port, self.password)
        token = client.call("event.from", ["*"], "", 0.0)["token"]
        while not self.stop.is_set():
            answer = client.call("event.from", ["*"], token, 0.5)
            token = answer["token"]
            self.events += len(answer["events"])


def mix(ref: str, uuid: str, dice: random.Random) -> list[tuple[Any, ...]]:
    """What a control plane asks of one VM; every fourth call writes, and so makes an event."""
    return [
        ("VM.get_record", ref),
        ("VM.get_by_uuid", uuid),
        ("VM.get_power_state", ref),
        ("VM.get_allowed_operations", ref),
        ("VM.get_VBDs", ref),
        ("VM.assert_operation_valid", ref, "pool_migrate"),
        ("VM.set_name_description", ref, str(dice.random())),
        ("VM.set_tags", ref, [str(dice.randrange(100))]),
    ]


@contextmanager
def pool(vms: int) -> Iterator[Pool]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(vms, theirs))
    process.start()
    try:
        theirs.close()  # so that its death is seen here as the end of the pipe
        if not ours.poll(900):
            raise TimeoutError(f"the pool of {vms} VMs was not ready after 15 minutes")
        address, port, password = ours.recv()
        built = Pool(vms, address, int(port), password, ours)
        built.attach_followers()
        try:
            yield built
        finally:
            built.detach_followers()
    finally:
        process.terminate()
        process.join(30)


def show(built: Pool) -> None:
    built.detach_followers()
    built.pipe.send("end")
    cpu, memory = built.pipe.recv()
    ordered = sorted(built.seconds)
    print(
        f"{built.vms:>5} VMs: {len(ordered) / sum(ordered):7.0f} calls/s,"
        f" p50 {ordered[len(ordered) // 2] * 1e3:.3f} ms,"
        f" p99 {ordered[len(ordered) * 99 // 100] * 1e3:.3f} ms, {built.events} events to"
        f" {FOLLOWERS} followers, 0 errors, {cpu:.1f} s CPU, {memory / 2**20:.0f} MiB RSS"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="under a minute")
    short = parser.parse_args().short
    pairs, calls = (7, 400) if short else (15, 2000)
    dice = random.Random(SEED)
    with pool(SMALL) as small, pool(LARGE) as large:
        for built in (small, large):
            built.burst(calls, dice)  # caches and interpreters warm up
            built.seconds.clear()
        few, many = [], []
        for _ in range(pairs):
            few.append(statistics.median(small.burst(calls, dice)) * 1e3)
            many.append(statistics.median(large.burst(calls, dice)) * 1e3)
        for built in (small, large):
            show(built)
    met = report(
        "lab.p50_2000_over_20_vms",
        unit="ms",
        values=many,
        baselines=few,
        goal=GOAL,
        higher_is_better=False,
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
