"""What carries our marker in a pool and has lost whom it was made for. Pure.

Only what the ledger knows to be over is an orphan. What it has never heard of is a stranger: perhaps another
control plane's, perhaps a tenant's whose row was lost, so it is told of and never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM with our marker; neither template nor snapshot. `is_idle`: nothing is being done with it.

    It is an `instance`'s, or a `blank`.
    """

    uuid: UUID
    instance: UUID | None
    is_halted: bool
    is_idle: bool
    blank: UUID | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A VDI with our marker, no snapshot.

    `instance`, `blank`: whose it is. `own`: the uuid that its marker gives it, which on an unfinished
    clone is its source's. `filling`: the digest of the image that is being written to it.
    """

    uuid: UUID
    is_attached: bool
    instance: UUID | None = None
    blank: UUID | None = None
    own: UUID | None = None
    filling: str | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """A network with our marker. `is_used`: a VM has an interface on it."""

    uuid: UUID
    segment: UUID
    is_used: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """`living`: instance → the VM that was made for it last. `ended`: instances that came to their end.

    `segments`: living ones → the network that was made for each. `ended_segments`: those that came to their end.
    `digests`: of all images there ever were. `sources`: disks that clones are made from, ours for sure.
    `imports`: some image is being imported now. `blanks`: those that have not ended.
    """

    living: Mapping[UUID, UUID | None]
    ended: frozenset[UUID]
    digests: frozenset[str]
    sources: frozenset[UUID]
    imports: bool = False
    segments: Mapping[UUID, UUID | None] = field(default_factory=dict)
    ended_segments: frozenset[UUID] = frozenset()
    blanks: frozenset[UUID] = frozenset()
    ended_blanks: frozenset[UUID] = frozenset()

    def knows(self, instance: UUID) -> bool:
        return instance in self.living or instance in self.ended

    def knows_segment(self, segment: UUID) -> bool:
        return segment in self.segments or segment in self.ended_segments


@dataclass(frozen=True, slots=True)
class Orphans:
    """VMs, VDIs and networks to remove, and the instances and segments that strangers name."""

    vms: frozenset[UUID]
    vdis: frozenset[UUID]
    networks: frozenset[UUID]
    strangers: frozenset[UUID]

    @property
    def all(self) -> frozenset[UUID]:
        return self.vms | self.vdis | self.networks


def instances_of(vms: Iterable[Machine], vdis: Iterable[Disk]) -> set[UUID]:
    """Whose they are."""
    things: tuple[Machine | Disk, ...] = (*vms, *vdis)
    return {one.instance for one in things if one.instance}


def blanks_of(vms: Iterable[Machine], vdis: Iterable[Disk]) -> set[UUID]:
    """Which they are, or whose."""
    things: tuple[Machine | Disk, ...] = (*vms, *vdis)
    return {one.blank for one in things if one.blank}


def diff(
    vms: Iterable[Machine], vdis: Iterable[Disk], wires: Iterable[Wire], ledger: Ledger
) -> Orphans:
    vms, vdis, wires = list(vms), list(vdis), list(wires)
    segments = {wire.segment for wire in wires}
    strange = {uuid for uuid in instances_of(vms, vdis) if not ledger.knows(uuid)}
    strange |= blanks_of(vms, vdis) - ledger.blanks - ledger.ended_blanks
    strange |= {uuid for uuid in segments if not ledger.knows_segment(uuid)}
    return Orphans(
        vms=frozenset(vm.uuid for vm in vms if _is_left_over(vm, ledger)),
        vdis=frozenset(vdi.uuid for vdi in vdis if _is_needless(vdi, ledger)),
        networks=frozenset(wire.uuid for wire in wires if _is_cut(wire, ledger)),
        strangers=frozenset(strange),
    )


def _is_left_over(vm: Machine, ledger: Ledger) -> bool:
    """Of an instance or a blank that is over; or a halted double of one that lives, whose own VM is another."""
    if not vm.is_idle:
        return False
    if vm.instance is None:
        return vm.blank in ledger.ended_blanks
    if vm.instance in ledger.ended:
        return True
    own = ledger.living.get(vm.instance)
    return own is not None and own != vm.uuid and vm.is_halted


def _is_needless(vdi: Disk, ledger: Ledger) -> bool:
    if vdi.is_attached:
        return False
    if vdi.own is not None and vdi.own != vdi.uuid:
        return vdi.own in ledger.sources
    if vdi.instance is not None:
        return vdi.instance in ledger.ended
    if vdi.blank is not None:
        return vdi.blank in ledger.ended_blanks
    return vdi.filling in ledger.digests and not ledger.imports


def _is_cut(wire: Wire, ledger: Ledger) -> bool:
    """Of a segment that is over; or the double of one that lives, whose own network is another."""
    if wire.is_used:
        return False
    own = ledger.segments.get(wire.segment)
    return wire.segment in ledger.ended_segments or (own is not None and own != wire.uuid)
