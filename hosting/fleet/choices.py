"""The words of the fleet, and which of them may follow which."""

from django.db.models import TextChoices


class HostState(TextChoices):
    """What we want of a host, or know of its end. What XAPI says of it is `enabled` and `live`.

    Cordoned: no new instances. Draining: those here move off. Suspect: it may be dead; nothing may be
    done about its VMs yet. Fenced: proven to be powered off, or vouched for. Dead: declared so to XAPI;
    its VMs may start elsewhere.
    """

    ACCEPTING = "accepting"
    CORDONED = "cordoned"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    SUSPECT = "suspect"
    FENCED = "fenced"
    DEAD = "dead"


_IN_SERVICE = frozenset(
    {HostState.ACCEPTING, HostState.CORDONED, HostState.DRAINING, HostState.MAINTENANCE}
)

# A suspect that answers again goes back to what it was. From fenced there is no way but to be declared
# dead, and from dead only to maintenance, where a person looks before it takes tenants again.
COMES_FROM: dict[HostState, frozenset[HostState]] = {
    HostState.ACCEPTING: frozenset(_IN_SERVICE | {HostState.SUSPECT}),
    HostState.CORDONED: frozenset(_IN_SERVICE | {HostState.SUSPECT}),
    HostState.DRAINING: frozenset({HostState.ACCEPTING, HostState.CORDONED, HostState.SUSPECT}),
    HostState.MAINTENANCE: frozenset(
        {HostState.CORDONED, HostState.DRAINING, HostState.SUSPECT, HostState.DEAD}
    ),
    HostState.SUSPECT: _IN_SERVICE,
    HostState.FENCED: frozenset({HostState.SUSPECT}),
    HostState.DEAD: frozenset({HostState.FENCED}),
}

# A recovery is, or may come to be, at its fence: a person's word may stand for the proof.
WAITS_FOR_FENCE = frozenset({HostState.SUSPECT, HostState.FENCED})


class PoolState(TextChoices):
    """Enrolled: never followed yet. Unreachable: its master has not answered the follower of late."""

    ENROLLED = "enrolled"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"


class BootMode(TextChoices):
    """How a pool's VMs boot (XAPI.md 2.1): from their disk by firmware, or by a kernel that its hosts have."""

    BIOS = "bios", "from disk, by BIOS"
    UEFI = "uefi", "from disk, by UEFI"
    PVH = "pvh", "a host's kernel, as PVH"
    PV = "pv", "a host's kernel, as PV"


DISK_BOOTS = (BootMode.BIOS, BootMode.UEFI)
DIRECT_BOOTS = (BootMode.PVH, BootMode.PV)


class PowerState(TextChoices):
    """XAPI's own (vm_power_state)."""

    HALTED = "Halted"
    PAUSED = "Paused"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
