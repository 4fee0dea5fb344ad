"""A hypervisor of four calls and three workflows over it, so that the engine's tests need nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hosting.fleet.models import Host, Pool
from worker.hypervisor.port import NoRoom
from worker.workflow import Done, Facts, Failed, Next, Outcome, Spawn, Wait, Workflow

NEEDS = 2**30


@dataclass
class Shed:
    """Holds one lamp per name. Making is not idempotent, so that a careless step is found out."""

    lamps: dict[str, bool] = field(default_factory=dict)
    made: int = 0
    full: bool = False

    def find(self, name: str) -> bool | None:
        return self.lamps.get(name)

    def make(self, name: str) -> None:
        if self.full:
            raise NoRoom("shed_full")
        self.made += 1
        self.lamps[name] = False

    def light(self, name: str) -> None:
        self.lamps[name] = True

    def remove(self, name: str) -> None:
        self.lamps.pop(name, None)


furnish = Workflow[Host](
    "test.furnish",
    subject="host",
    first="reserve",
    undo="clear",
    no_room="elsewhere",
    deadline=timedelta(minutes=5),
)


@furnish.ledger
def reserve(host: Host, facts: Facts) -> Outcome:
    if not Host.objects.filter(pk=host.pk).reserve(NEEDS):
        return Wait(timedelta(seconds=30), reason="the host is full")
    return Next(build, reserved=NEEDS, host=host.pk)


@furnish.remote
def build(host: Host, facts: Facts, shed: Any) -> Outcome:
    if shed.find(host.name) is None:
        shed.make(host.name)
    return Next(light)


@furnish.remote
def light(host: Host, facts: Facts, shed: Any) -> Outcome:
    lit = shed.find(host.name)
    if lit is None:
        return Next(build)
    if lit:
        return Next(publish)
    shed.light(host.name)
    return Wait(timedelta(seconds=1))


@furnish.ledger(can_turn_back=False)
def publish(host: Host, facts: Facts) -> Outcome:
    Host.objects.filter(pk=host.pk).update(bmc_username="lit")
    return Next(look)


@furnish.remote(can_turn_back=False)
def look(host: Host, facts: Facts, shed: Any) -> Outcome:
    return Done() if shed.find(host.name) else Next(light)


@furnish.ledger
def elsewhere(host: Host, facts: Facts) -> Outcome:
    Host.objects.filter(pk=host.pk).release(facts["reserved"])
    return Next(reserve, moved=True)


@furnish.remote
def clear(host: Host, facts: Facts, shed: Any) -> Outcome:
    shed.remove(host.name)
    return Next(give_back)


@furnish.ledger
def give_back(host: Host, facts: Facts) -> Outcome:
    if "reserved" in facts:
        Host.objects.filter(pk=host.pk).release(facts["reserved"])
    return Failed()


furnish_all = Workflow[Pool]("test.furnish_all", subject="pool", first="dark")


@furnish_all.ledger
def dark(pool: Pool, facts: Facts) -> Outcome:
    still = list(Host.objects.filter(pool=pool).exclude(bmc_username="lit"))
    if not still:
        return Next(count)
    return Spawn(furnish, still, timedelta(minutes=2), reason=f"{len(still)} dark")


@furnish_all.remote
def count(pool: Pool, facts: Facts, shed: Any) -> Outcome:
    shed.find("anything")
    return Done()


douse = Workflow[Host]("test.douse", subject="host", first="put_out")


@douse.remote
def put_out(host: Host, facts: Facts, shed: Any) -> Outcome:
    shed.remove(host.name)
    return Done()
