"""The guest model: what runs in a domain, as far as XAPI can see it.

A guest boots, tells of itself (VM_guest_metrics, text console), obeys or ignores requests to shut
down, and may end by itself. How it behaves is chosen per VM by words in other_config `lab:guest`:

    no-drivers              no paravirtual drivers: nothing is reported, nothing obeyed
    no-agent                drivers, but no agent: no versions, no features, no addresses
    ignore-shutdown         does not acknowledge requests to shut down, reboot or suspend
    hang-shutdown           acknowledges them and does nothing
    boot=SECONDS            boots so long (default: `Config.guest_boot_seconds`)
    boot-fails              never gets beyond the boot loader
    exit=S crash=S reboot=S ends so many seconds after it has booted
    ip=ADDRESS              reports this address for its first interface (default: the addresses
                            that its interfaces are locked to)
    tell=KEY:VALUE          writes vm-data/KEY once it has booted; may be given several times

A blank one (programs.py) says vm-data/blank = 1, and 0 once it has its root disk.
In a pool whose VMs have a config disk (`--config-disk`) it also tells what it was told to run: programs.py.

A guest that is frozen (paused, suspended, in migration) is out of time: its timers stand still.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from deploy.lab.database import Row
from deploy.lab.programs import TELL_EVERY, Program, is_blank, program_of, root_disk

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

End = Literal["poweroff", "reboot", "crash"]
BEHAVIOUR_KEY = "lab:guest"
CONSOLE_BYTES = 64 * 1024
CONSOLE_BYTES_KEPT = 4 * 1024
"""What of it a saved state keeps."""
DRIVERS_VERSION = {"major": "9", "minor": "4", "micro": "0", "build": "146"}
OS_VERSION = {
    "name": "Debian GNU/Linux 12 (simulated)",
    "uname": "6.1.0-sim",
    "distro": "debian",
    "major": "12",
    "minor": "0",
}
FEATURES = {
    f"feature-{name}": "1"
    for name in (
        "shutdown",
        "poweroff",
        "reboot",
        "suspend",
        "balloon",
        "vcpu-hotplug",
        "static-ip-setting",
    )
}


@dataclass(frozen=True)
class Behaviour:
    """How a guest behaves. Times are seconds of lab time."""

    boot: float
    boots: bool = True
    drivers: bool = True
    agent: bool = True
    shutdown: Literal["obey", "ignore", "hang"] = "obey"
    end: End | None = None
    end_after: float = 0.0
    ip: str = ""
    vm_data: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, lab: Lab, vm: Row) -> Behaviour:
        """Read what the VM's other_config asks for; words that mean nothing are passed over."""
        chosen: dict[str, Any] = {"boot": lab.config.guest_boot_seconds}
        for word in vm.other_config.get(BEHAVIOUR_KEY, "").replace(",", " ").split():
            name, _, value = word.partition("=")
            chosen |= _WORDS.get(word, {})
            if name == "ip":
                chosen["ip"] = value
            elif name == "tell" and ":" in value:
                key, _, text = value.partition(":")
                chosen["vm_data"] = (*chosen.get("vm_data", ()), (key, text))
            elif name in ("boot", "exit", "crash", "reboot") and _is_number(value):
                if name == "boot":
                    chosen["boot"] = float(value)
                else:
                    end = "poweroff" if name == "exit" else name
                    chosen |= {"end": end, "end_after": float(value)}
        return cls(**chosen)


_WORDS: dict[str, dict[str, Any]] = {
    "no-drivers": {"drivers": False, "agent": False},
    "no-agent": {"agent": False},
    "ignore-shutdown": {"shutdown": "ignore"},
    "hang-shutdown": {"shutdown": "hang"},
    "boot-fails": {"boots": False},
}


_ENDS: dict[str, End] = {"crash": "crash", "reboot": "reboot"}


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


class Console:
    """A guest's text console: what it wrote last, whoever is watching, and what is typed."""

    def __init__(self) -> None:
        self._output: deque[bytes] = deque()
        self._size = 0
        self._watchers: set[Callable[[bytes], None]] = set()
        self.on_input: Callable[[bytes], None] = lambda data: None
        """Gets what a client types."""

    @property
    def output(self) -> bytes:
        """The last bytes written, at most `CONSOLE_BYTES`."""
        return b"".join(self._output)[-CONSOLE_BYTES:]

    def write(self, data: bytes) -> None:
        self._output.append(data)
        self._size += len(data)
        while self._size - len(self._output[0]) >= CONSOLE_BYTES:
            self._size -= len(self._output.popleft())
        for watcher in list(self._watchers):
            watcher(data)

    def subscribe(self, watcher: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `watcher` with everything written from now on; answers what ends that."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def type(self, data: bytes) -> None:
        """A client typed this."""
        self.on_input(data)


class Guest:
    """One domain's guest. It outlives a move to another machine; a reboot makes a new one."""

    def __init__(self, lab: Lab, vm: Row, on_end: Callable[[Guest, End], None]) -> None:
        self.lab = lab
        self.vm = vm
        self.behaviour = Behaviour.of(lab, vm)
        self.is_blank = is_blank(vm)
        self.on_end = on_end
        """Told when the guest ends by itself."""
        self.console = Console()
        self.console.on_input = self._answer
        self.started_at = lab.clock.now()
        self.is_whole = True
        """Its domain is not being made or taken down; the toolstack that does it may die over it."""
        self.is_up = False
        self.paused = False
        self.ended: End | None = None
        self.stopped = asyncio.Event()
        """Set when the guest has ended, whatever the reason."""
        self._is_silent = False
        self._lived = 0.0
        self._resumed_at = 0.0
        self._life: asyncio.Task[None] | None = None

    # --- time

    def thaw(self) -> None:
        """Run, from where it stood."""
        self.paused = False
        if self._life is None and not self.stopped.is_set():
            self._resumed_at = self.lab.clock.now()
            if not self.is_up and self.behaviour.boots and self.behaviour.boot <= self._lived:
                self._come_up()
            elif self.is_up and self._is_silent:
                self.report()
            self._life = self.lab.spawn(self._live())

    def wake_booted(self) -> None:
        """Be a guest that had booted before: one of a suspend image whose guest is forgotten."""
        self.is_up = True
        self._lived = self.behaviour.boot

    def freeze(self) -> None:
        """Stand still."""
        self.paused = True
        if self._life is not None:
            self._lived += self.lab.clock.now() - self._resumed_at
            self._life.cancel()
            self._life = None

    def kill(self) -> None:
        """The domain goes under it."""
        self.freeze()
        self.is_whole = False
        self.stopped.set()

    async def _live(self) -> None:
        behaviour = self.behaviour
        if not behaviour.boots:
            self.say("error: no bootable device")
            return
        await self._until(behaviour.boot)
        if not self.is_up:
            self._come_up()
        end_at = math.inf if behaviour.end is None else behaviour.boot + behaviour.end_after
        await self._work_until(end_at)
        if behaviour.end is not None:
            await self._until(end_at)
            self.end(behaviour.end)

    async def _work_until(self, end_at: float) -> None:
        """Give signs of life, if it was told what to run."""
        if self.is_blank:
            await self._become_somebodys()
        program = program_of(self.lab, self.vm)
        while program is not None and (age := self._age() + TELL_EVERY) < end_at:
            await self._until(age)
            self.say(program.sign_of_life(self.lab.clock.now() - self.started_at))

    async def _become_somebodys(self) -> None:
        await root_disk(self.lab, self.vm)
        self.is_blank = False
        self.write_vm_data("blank", "0")
        self._open(program_of(self.lab, self.vm))
        self.report()

    def _open(self, program: Program | None) -> None:
        for line in program.opening() if program is not None else ():
            self.say(line)

    def _age(self) -> float:
        """Seconds that it has lived, without those in which it was frozen."""
        return self._lived + self.lab.clock.now() - self._resumed_at

    async def _until(self, age: float) -> None:
        left = age - self._age()
        if left > 0:
            await self.lab.clock.sleep(left)

    def _come_up(self) -> None:
        self.is_up = True
        self.say(f"{self.vm.name_label} is up")
        program = program_of(self.lab, self.vm)
        self._open(program)
        if self.behaviour.drivers:
            self.report()
        if self.is_blank:
            self.write_vm_data("blank", "1")
        for key, value in self.behaviour.vm_data:
            self.write_vm_data(key, value)

    # --- what the world sees of it

    def say(self, line: str) -> None:
        self.console.write(line.encode() + b"\r\n")

    def _answer(self, data: bytes) -> None:
        """The guest's terminal: it echoes what is typed."""
        if self.is_up and not self.paused:
            self.console.write(data.replace(b"\r", b"\r\n"))

    def report(self) -> None:
        """Write what the drivers and the agent tell into the VM's guest metrics."""
        metrics = self.lab.db.find("VM_guest_metrics", self.vm.guest_metrics)
        if metrics is None:
            return
        self._is_silent = False
        told: dict[str, Any] = {
            "PV_drivers_detected": True,
            "last_updated": self.lab.clock.date(),
            "live": True,
        }
        if self.behaviour.agent:
            told |= {
                "os_version": dict(OS_VERSION),
                "PV_drivers_version": dict(DRIVERS_VERSION),
                "PV_drivers_up_to_date": True,
                "other": dict(FEATURES),
                "networks": self._addresses(),
                "can_use_hotplug_vbd": "yes",
                "can_use_hotplug_vif": "yes",
            }
        self.lab.db.update(metrics, **told)

    def unreport(self) -> None:
        """What it told is forgotten until it speaks again."""
        metrics = self.lab.db.find("VM_guest_metrics", self.vm.guest_metrics)
        if metrics is None or not metrics.PV_drivers_detected:
            return
        self._is_silent = True
        self.lab.db.update(
            metrics,
            os_version={},
            PV_drivers_version={},
            PV_drivers_up_to_date=False,
            PV_drivers_detected=False,
            other={},
            networks={},
            can_use_hotplug_vbd="unspecified",
            can_use_hotplug_vif="unspecified",
        )

    def _addresses(self) -> dict[str, str]:
        """What the guest's interfaces have; nobody hands out addresses on the lab's networks."""
        networks: dict[str, str] = {}
        for vif in self.lab.db.rows("VIF", self.vm.VIFs):
            v4 = list(vif.ipv4_allowed)
            if vif.device == "0" and self.behaviour.ip:
                v4 = [self.behaviour.ip]
            if v4 and vif.currently_attached:
                networks[f"{vif.device}/ip"] = v4[0]
            if vif.currently_attached:
                for version, addresses in (("ipv4", v4), ("ipv6", vif.ipv6_allowed)):
                    for number, address in enumerate(addresses):
                        networks[f"{vif.device}/{version}/{number}"] = address
        return networks

    def write_vm_data(self, key: str, value: str) -> None:
        """The guest writes below vm-data/ in xenstore: it comes back in VM.xenstore_data."""
        self.lab.db.update(
            self.vm, xenstore_data={**self.vm.xenstore_data, f"vm-data/{key}": value}
        )

    # --- its end

    def acknowledges(self) -> bool:
        """Whether it answers a request to shut down, reboot or suspend."""
        behaviour = self.behaviour
        return self.is_up and behaviour.drivers and behaviour.shutdown != "ignore"

    def obey(self, reason: End) -> None:
        """Do what was asked, in its own time; one that hangs never does."""
        if self.behaviour.shutdown == "obey":
            self.say("The system is going down.")
            self.lab.spawn(self._obey(reason))

    async def _obey(self, reason: End) -> None:
        await self.lab.clock.sleep(self.lab.config.durations.guest_stop)
        self._stop(reason)

    def end(self, reason: End) -> None:
        """Power off, reboot or crash of its own accord."""
        if self.ended is None and not self.stopped.is_set():
            self.say(
                "Kernel panic - not syncing" if reason == "crash" else "The system is going down."
            )
            self._stop(reason)
            self.on_end(self, reason)

    def tell(self, action: str) -> None:
        """Have it do as the control API asks: crash, exit, reboot, or ignore_shutdown."""
        if action == "ignore_shutdown":
            self.behaviour = replace(self.behaviour, shutdown="ignore")
        else:
            self.end("poweroff" if action == "exit" else _ENDS[action])

    def _stop(self, reason: End) -> None:
        if self.ended is None and not self.stopped.is_set():
            self.ended = reason
            self._life = None
            self.stopped.set()

    # --- keeping it

    def saved(self) -> dict[str, Any]:
        """What is needed to go on with it later (`restored`)."""
        return {
            "started_at": self.started_at,
            "is_up": self.is_up,
            "paused": self.paused,
            "console": self.console.output[-CONSOLE_BYTES_KEPT:].decode("latin-1"),
        }

    @classmethod
    def restored(
        cls, lab: Lab, vm: Row, saved: dict[str, Any], on_end: Callable[[Guest, End], None]
    ) -> Guest:
        guest = cls(lab, vm, on_end)
        guest.started_at = saved["started_at"]
        if saved["is_up"]:
            guest.wake_booted()
        guest.paused = saved["paused"]
        guest.console.write(saved["console"].encode("latin-1"))
        return guest


def new_guest_metrics(lab: Lab, vm: Row) -> Row:
    """The fresh VM_guest_metrics of a domain that starts; the one before it goes."""
    old = lab.db.find("VM_guest_metrics", vm.guest_metrics)
    row = lab.db.create(
        "VM_guest_metrics",
        uuid=str(uuid.UUID(int=lab.random.getrandbits(128), version=4)),
        last_updated=lab.clock.date(),
        live=True,
    )
    lab.db.update(vm, guest_metrics=row.ref)
    if old is not None:
        lab.db.delete(old)
    return row
