"""A simulated machine: power, toolstack, role in the pool, and the domains that really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.detector import Domains
from deploy.lab.errors import XapiError
from deploy.lab.schema import Message
from deploy.lab.xenopsd import Xenopsd

if TYPE_CHECKING:
    from deploy.lab.guest import End, Guest
    from deploy.lab.lab import Lab


@dataclass(eq=False)
class Machine:
    """One physical host. What it runs (`domains`) may differ from what the database says."""

    lab: Lab
    name: str
    address: str
    port: int
    host: Row
    certificate: str = ""
    """What it shows to its clients, PEM."""
    use_certificate: Callable[[str, str], None] = lambda key, certificate: None
    """Shows another certificate from now on (key and certificate, PEM); set by the server."""
    powered: bool = True
    toolstack: bool = True
    emergency: bool = False
    looks_for: Machine | None = None
    """The coordinator that was lost, while in emergency mode."""
    reachable: bool = True
    """Clients of the API reach it."""
    isolated: bool = False
    """No other host of the pool reaches it, nor it any of them; clients may."""
    clock_skew: float = 0.0
    """Seconds its clock is ahead of the lab's."""
    bmc_port: int = 0
    bmc_fault: str | None = None
    """None, or `unreachable`, `ignores` (answers yes, does nothing), `refuses`."""
    cut_connections: Callable[[], None] = lambda: None
    """Drops every open client connection; set by the server that listens for this machine."""
    domains: Domains = field(init=False)
    """VM uuid → the running guest. Survives a restart of the toolstack, not a power cut."""
    xenopsd: Xenopsd = field(init=False)
    life: int = 0
    """Counts ends and beginnings of power and toolstack: work of an earlier life is lost."""
    boots: int = 0
    arriving: set[str] = field(default_factory=set)
    """References of VMs given to this host that are not resident yet."""
    last_heartbeat: float = field(init=False)
    has_news: bool = False
    """The coordinator has not heard of the latest changes of its domains."""
    auto_enable: bool = True
    """Whether its host is enabled when its toolstack starts."""
    storage_migrations: int = 0
    """VMs being moved away together with their disks."""
    going_down: bool = False
    """host.shutdown or host.reboot was asked for."""

    def __post_init__(self) -> None:
        self.domains = Domains(self)
        self.xenopsd = Xenopsd(self)
        self.last_heartbeat = self.lab.clock.now()

    @property
    def is_coordinator(self) -> bool:
        return self.lab.coordinator is self

    @property
    def answers(self) -> bool:
        """Its xapi serves clients' requests."""
        return self.powered and self.toolstack and self.reachable

    @property
    def answers_coordinator(self) -> bool:
        """Its xapi answers the coordinator, and its heartbeats arrive there."""
        serves = self.powered and self.toolstack
        cut_off = self.isolated or self.lab.coordinator.isolated
        return serves and (self.is_coordinator or not cut_off)

    def power_off(self) -> None:
        """Cut its power: guests die, nothing is written down."""
        self.lab.power.off(self)

    def power_on(self) -> None:
        """Give it power; its toolstack answers some seconds later."""
        self.lab.power.on(self)

    def crash_toolstack(self) -> None:
        """Its daemons die; guests run on."""
        self.lab.power.crash_toolstack(self)

    def restart_toolstack(self) -> None:
        self.lab.power.restart_toolstack(self)

    def guest_ended(self, guest: Guest, reason: End) -> None:
        """One of its guests ended by itself."""
        self.lab.power.guest_ended(self, guest, reason)

    def check_serves(self, declared: Message, session: Row | None = None) -> None:
        """Raise what a host answers that is not in a position to serve this message."""
        if declared.full_name in _ALWAYS:
            return
        if self.emergency:
            raise XapiError("HOST_STILL_BOOTING")
        if not self.is_coordinator:
            raise XapiError("HOST_IS_SLAVE", self.lab.coordinator.address)


_ALWAYS = {
    "pool.emergency_transition_to_master",
    "pool.emergency_reset_master",
    "pool.is_slave",
    "session.slave_local_login",
    "session.slave_local_login_with_password",
    "session.local_logout",
    "host.is_in_emergency_mode",
    "host.propose_new_master",
    "host.commit_new_master",
    "host.abort_new_master",
    "host.local_assert_healthy",
}
