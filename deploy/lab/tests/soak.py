"""Many clients calling at random, valid and not, while things break: the lab's endurance run.

Calls are made up from the datamodel: any message that the lab serves, with arguments that are
mostly live references and plausible values and sometimes nonsense. What the lab answers has to be
what a daemon could answer, and what it holds has to stay consistent.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import HANDLERS
from deploy.lab.lab import Lab
from deploy.lab.schema import NULL, SCHEMA, Message, Parameter, Type
from deploy.lab.tests.trace import Trace

# These let a VM run twice when a host is wrongly believed dead, on the real daemon as well
# (XAPI.md 6.3); or take the word that a disk is shared from those who share it; or end the pool
# for everybody.
EXCLUDED = {
    "host.declare_dead",
    "VM.power_state_reset",
    "pool.emergency_transition_to_master",
    "pool.emergency_reset_master",
    "pool.designate_new_master",
    "pool.eject",
    "host.destroy",
    "VDI.set_sharable",
    "SR.forget",
    "SR.destroy",
    "PBD.unplug",
    "PBD.destroy",
    "session.logout",
    "session.local_logout",
    "event.next",
}
SPARING_THE_COORDINATOR = {"host.restart_agent", "host.reboot", "host.shutdown"}
"""Made of members only. A coordinator that starts again has forgotten every operation under way
while hosts go on with their part of them, so the next call may start a VM that another host is
about to run: the real daemon says so of itself (cancel_tasks.ml)."""
MOST_OBJECTS = 60
"""Of a class that clients make, beside what was there before; above it they are destroyed rather
than made."""
OWN = 0.9
"""How much of what is asked of VMs is asked of VMs that clients have made."""

_CALLABLE = [
    message
    for name, message in SCHEMA.messages.items()
    if name not in EXCLUDED
    and message.cls not in ("role", "auth", "session")
    and not message.pool_internal
    and (name in HANDLERS or message.kind not in ("custom", "create", "destroy"))
]
_FAVOURITES = [
    SCHEMA.messages[name]
    for name in (
        *("VM.start", "VM.start_on", "VM.hard_shutdown", "VM.clean_shutdown", "VM.pool_migrate"),
        *("VM.suspend", "VM.resume", "VM.hard_reboot", "VM.snapshot", "VM.clone", "VM.destroy"),
        *("VBD.create", "VBD.plug", "VBD.unplug", "VBD.destroy", "VDI.create", "VDI.destroy"),
        *("VDI.clone", "VDI.snapshot", "VIF.create", "VIF.plug", "VIF.destroy", "event.from"),
        *("host.disable", "host.enable", "host.evacuate", "network.create", "network.destroy"),
        *("VM.provision", "VM.set_is_a_template", "task.cancel", "task.destroy"),
    )
]


_LIFE = [
    SCHEMA.messages[f"VM.{name}"]
    for name in (
        *("start", "start_on", "suspend", "resume", "resume_on", "pause", "unpause"),
        *("clean_shutdown", "hard_shutdown", "clean_reboot", "hard_reboot", "pool_migrate"),
        *("checkpoint", "revert"),
    )
]
"""What VMs live through; asked mostly of those that may."""
_GUESTS = ("", "", "reboot=30", "exit=60", "crash=90", "ignore-shutdown", "boot=20")


@dataclass
class Tally:
    calls: int = 0
    dropped: int = 0
    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    surprises: list[str] = field(default_factory=list)
    """Answers that no daemon gives."""


class Run:
    """What all clients of one pool share."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.trace = Trace(lab)
        self.tally = Tally()
        self._most = {name: MOST_OBJECTS + lab.db.count(name) for name in lab.db.tables}

    def is_crowded(self, cls: str) -> bool:
        return self.lab.db.count(cls) > self._most[cls]


class Caller:
    """One client with a connection and a session of its own."""

    def __init__(self, run: Run, seed: int) -> None:
        self.lab = run.lab
        self.shared = run
        self.tally = run.tally
        self.trace = run.trace
        self.dice = random.Random(seed)
        self.ids = itertools.count(1)
        self.session = ""
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            try:
                if not self.session:
                    await self.log_in()
                await self.one(self.dice.choice(self.dice.choice((_LIFE, _FAVOURITES, _CALLABLE))))
            except (ConnectionError, asyncio.IncompleteReadError):
                self.tally.dropped += 1
                self.hang_up()
                await asyncio.sleep(0.02)
        self.hang_up()

    async def log_in(self) -> None:
        password = self.lab.config.password
        answer = await self.post("session.login_with_password", ["root", password, "2.21", "soak"])
        if "result" in answer:
            self.session = answer["result"]

    async def one(self, message: Message) -> None:
        if _makes(message) and self.shared.is_crowded(message.cls):
            message = SCHEMA.messages.get(f"{message.cls}.destroy", message)
        name = message.full_name
        if message.is_async and self.dice.random() < 0.3:
            name = f"Async.{name}"
        arguments = [self.argument(message, p) for p in message.parameters]
        if message in _LIFE and self.dice.random() < 0.8:
            arguments[0] = self.willing(message.name)
        if self.dice.random() < 0.02:
            arguments = arguments[:-1]
        if (
            message.full_name in SPARING_THE_COORDINATOR
            and self.lab.coordinator.host.ref in arguments
        ):
            return
        self.trace.note(f"{name} {arguments[1:]}", *arguments)
        answer = await self.post(name, [self.session, *arguments])
        self.trace.note(f"{name} answered {answer.get('error', 'well')}", *arguments)
        self.check(name, answer)

    def check(self, name: str, answer: dict[str, Any]) -> None:
        self.tally.calls += 1
        error = answer.get("error")
        self.tally.answers[error["message"] if error else "ok"] += 1
        if error is None:
            return
        code = error["message"]
        if code == "SESSION_INVALID":
            self.session = ""
        if code not in SCHEMA.errors and not code.startswith(("SR_BACKEND_FAILURE_", "Fault")):
            self.tally.surprises.append(f"{name}: {error}")

    async def post(self, method: str, params: list[Any]) -> dict[str, Any]:
        body = json.dumps(
            {"jsonrpc": "2.0", "method": method, "params": params, "id": next(self.ids)}
        ).encode()
        if self._stream is None:
            machine = self.lab.coordinator
            self._stream = await asyncio.open_connection(machine.address, machine.port)
        reader, writer = self._stream
        writer.write(
            b"POST /jsonrpc HTTP/1.1\r\nHost: lab\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        await writer.drain()
        status = await reader.readline()
        if not status:
            raise ConnectionResetError
        length, close = 0, False
        while (line := (await reader.readline()).strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            close |= line == b"connection: close"
        answer = await reader.readexactly(length)
        if close:
            self.hang_up()
        if b" 200 " not in status:
            self.tally.surprises.append(f"{method}: {status!r} {answer[-300:]!r}")
            return {"error": {"message": "Fault"}}
        result: dict[str, Any] = json.loads(answer)
        return result

    def hang_up(self) -> None:
        if self._stream is not None:
            self._stream[1].transport.abort()
            self._stream = None

    # --- arguments

    def argument(self, message: Message, parameter: Parameter) -> Any:
        if self.dice.random() < 0.03:
            return self.nonsense()
        if parameter.type.t == "record" and message.kind == "create":
            return self.record(message.cls)
        if parameter.name == "timeout":
            return self.dice.random()
        if parameter.name in ("classes",):
            return self.dice.sample(["vm", "VDI", "task", "*", "nosuch"], 2)
        if parameter.name == "token":
            return ""
        return self.value(parameter.type, parameter.name)

    def nonsense(self) -> Any:
        return self.dice.choice(["", "x", -1, 2.5, True, [], {}, NULL, ["x"], {"a": "b"}, 10**30])

    def value(self, kind: Type, name: str = "") -> Any:
        match kind.t:
            case "ref":
                rows = self.some(kind.name)
                return self.dice.choice(rows) if rows and self.dice.random() < 0.95 else NULL
            case "string":
                return self.text(name)
            case "int":
                return self.dice.choice([0, 1, 2, 15, 256 << 20, 1 << 30, -5])
            case "float":
                return self.dice.random()
            case "bool":
                return self.dice.random() < 0.5
            case "datetime":
                return "20260101T00:00:00Z"
            case "enum":
                # Nobody can destroy a disk of type rrd: they would pile up.
                return self.dice.choice(sorted(SCHEMA.enums[kind.name] - {"rrd"}))
            case "set":
                assert kind.of is not None
                return [self.value(kind.of) for _ in range(self.dice.randrange(3))]
            case "map":
                assert kind.value is not None
                return {str(n): self.value(kind.value) for n in range(self.dice.randrange(2))}
            case _:
                return {}

    def some(self, cls: str) -> list[str]:
        """References to choose from."""
        rows = self.lab.db.tables[cls].rows
        if cls == "VM" and self.dice.random() < OWN:
            return [ref for ref, vm in rows.items() if not _was_there(vm)] or list(rows)
        return list(rows)

    def willing(self, operation: str) -> str:
        """A VM that allows the operation."""
        rows = self.lab.db.tables["VM"].rows
        allowing = [ref for ref, vm in rows.items() if operation in vm.allowed_operations]
        return self.dice.choice(allowing) if allowing else NULL

    def text(self, name: str) -> str:
        if name == "uuid":
            rows = list(self.lab.db.tables["VM"].by_uuid)
            return self.dice.choice(rows) if rows else ""
        if name == "expr":
            return self.dice.choice(['field "name__label" = "a"', "true", "garbage"])
        return self.dice.choice(["", "a", "b", "0", "1", "10.0.0.1", "vm-data/x", "<&>"])

    def record(self, cls: str) -> dict[str, Any]:
        """A constructor's record: the classes that matter get one that mostly works."""
        made = {
            field.name: self.value(field.type, field.name)
            for field in SCHEMA.classes[cls].fields.values()
            if field.qualifier != "RO/runtime"
        }
        return made | self.sensible(cls)

    def sensible(self, cls: str) -> dict[str, Any]:
        device = {"other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}}
        match cls:
            case "VM":
                memory = {
                    f"memory_{kind}": 64 << 20
                    for kind in ("static_max", "dynamic_max", "dynamic_min", "static_min")
                }
                return memory | {
                    "VCPUs_max": 1,
                    "VCPUs_at_startup": 1,
                    "is_a_template": False,
                    "HVM_boot_policy": "BIOS order",
                    "affinity": NULL,
                    "power_state": "Halted",
                    "domain_type": "hvm",
                    "hardware_platform_version": 0,
                    "suspend_SR": NULL,
                    "ha_restart_priority": self.dice.choice(["", "", "restart", "best-effort"]),
                    "other_config": {"lab:guest": self.dice.choice(_GUESTS)},
                    "blocked_operations": {},
                    "platform": {},
                }
            case "VDI":
                return {"virtual_size": 8 << 20, "type": "user", "sharable": False}
            case "VBD":
                return device | {
                    "userdevice": str(self.dice.randrange(4)),
                    "mode": "RW",
                    "type": "Disk",
                    "empty": False,
                }
            case "VIF":
                return device | {
                    "device": str(self.dice.randrange(4)),
                    "MAC": "",
                    "MTU": 1500,
                    "locking_mode": "network_default",
                    "ipv4_allowed": [],
                    "ipv6_allowed": [],
                }
            case "network":
                return {"bridge": "", "managed": True, "MTU": 1500}
            case _:
                return {}


def _makes(message: Message) -> bool:
    """Whether the message makes an object of its class."""
    kind = message.result
    return (
        kind is not None
        and (kind.t, kind.name) == ("ref", message.cls)
        and (message.kind == "create" or not message.name.startswith("get_"))
    )


def _was_there(vm: Row) -> bool:
    return bool(vm.is_default_template or vm.is_control_domain)


async def break_things(run: Run, until: float, seed: int) -> None:
    """Lost requests and answers, forgotten sessions, missed deletions, power cuts."""
    lab, trace, dice = run.lab, run.trace, random.Random(seed)
    loop = asyncio.get_running_loop()
    members = [machine for machine in lab.machines.values() if not machine.is_coordinator]
    while loop.time() < until:
        await asyncio.sleep(0.5)
        match dice.randrange(6):
            case 0:
                lab.faults.inject("*", "drop_before", times=3)
            case 1:
                lab.faults.inject("*", "drop_after", times=3)
            case 2:
                lab.faults.inject("VM.*", "delay", seconds=1.0, times=3)
            case 3:
                lab.faults.overflow_events()
            case 4:
                lab.sessions.forget_all()
            case 5:
                machine = dice.choice(members)
                trace.note_machine(f"{machine.name} {'off' if machine.powered else 'on'}")
                if machine.powered:
                    machine.power_off()
                else:
                    machine.power_on()
    lab.faults.clear()
    for machine in lab.machines.values():
        if not machine.powered:
            machine.power_on()


def inconsistencies(lab: Lab) -> list[str]:
    """What must hold of a pool at rest, and does not."""
    found = [f"violation {violation}" for violation in lab.detector.violations]
    for table in lab.db.tables.values():
        for row in table.rows.values():
            if row.fields.get("current_operations") and not _may_hold(lab, row):
                found.append(f"{row!r} still holds {row.current_operations}")
    found += _broken_back_references(lab)
    for machine in lab.machines.values():
        for uuid in machine.domains:
            ref = lab.db.tables["VM"].by_uuid.get(uuid)
            vm = lab.db.find("VM", ref) if ref else None
            if vm is not None and vm.power_state not in ("Running", "Paused"):
                found.append(f"{vm!r} runs on {machine.name} but is {vm.power_state}")
    for vm in lab.db.all("VM"):
        if vm.power_state == "Running" and not vm.is_control_domain:
            home = lab.machines.get(vm.resident_on)
            if home is None or (home.answers_coordinator and vm.uuid not in home.domains):
                where = home.name if home is not None else vm.resident_on
                found.append(f"{vm!r} is Running at {where} but on no machine")
    return found


def _may_hold(lab: Lab, row: Row) -> bool:
    """Tasks and pools say other things by it; a host that is off holds what switched it off."""
    return row.cls in ("task", "pool") or (row.cls == "host" and not lab.machine(row.ref).powered)


def _broken_back_references(lab: Lab) -> list[str]:
    found = []
    for left, right in SCHEMA.relations:
        (one_cls, one), (many_cls, many) = left.split("."), right.split(".")
        if SCHEMA.classes[one_cls].fields[one].type.t != "ref":
            continue
        forward = {(row.ref, row.fields[one]) for row in lab.db.all(one_cls)}
        for row in lab.db.all(many_cls):
            for member in row.fields[many]:
                if (member, row.ref) not in forward:
                    found.append(f"{many_cls}.{many} of {row!r} names {member}, which does not")
    return found


async def soak(run: Run, *, seconds: float, seed: int, clients: int = 50) -> None:
    until = asyncio.get_running_loop().time() + seconds
    callers = [Caller(run, seed + number) for number in range(clients)]
    await asyncio.gather(break_things(run, until, seed), *(caller.run(until) for caller in callers))
