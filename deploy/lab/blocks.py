"""What is on the disks: sparse contents, shared between clones and snapshots until written.

Each volume is a chain: a leaf that is written, and below it read-only bases that it shares with
others, as VHD files are (XAPI.md 2.4). Data lie in one unlinked temporary file, so that memory
holds only where each block is.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 64 * 1024
_ZEROS = bytes(BLOCK)


class _Slots:
    """Fixed places for blocks in a file; a place may be shared, and is free when nobody has it."""

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp(prefix="bulkhead-lab-")
        Path(path).unlink()
        self.close = weakref.finalize(self, os.close, self._file)
        self._free: list[int] = []
        self._shares: dict[int, int] = {}
        self._next = itertools.count()

    def put(self, data: bytes) -> int:
        slot = self._free.pop() if self._free else next(self._next)
        os.pwrite(self._file, data, slot * BLOCK)
        self._shares[slot] = 1
        return slot

    def get(self, slot: int) -> bytes:
        return os.pread(self._file, BLOCK, slot * BLOCK)

    def share(self, slot: int) -> int:
        self._shares[slot] += 1
        return slot

    def drop(self, slot: int) -> None:
        self._shares[slot] -= 1
        if not self._shares[slot]:
            del self._shares[slot]
            self._free.append(slot)


@dataclass(eq=False)
class Volume:
    """One link of a chain. A base has children and no VDI that is written."""

    id: str
    parent: Volume | None = None
    hidden: bool = False
    pinned: bool = False
    """Never merged with its base."""
    blocks: dict[int, int | None] = field(default_factory=dict)
    """Block number → slot; None is a hole over what the parent has there."""
    children: set[Volume] = field(default_factory=set)

    @property
    def depth(self) -> int:
        """Links from here down to the lowest base, this one included."""
        return sum(1 for _ in self.chain())

    def chain(self) -> Iterator[Volume]:
        volume: Volume | None = self
        while volume is not None:
            yield volume
            volume = volume.parent

    @property
    def allocated(self) -> int:
        """Bytes of data that this link has of its own."""
        return BLOCK * sum(1 for slot in self.blocks.values() if slot is not None)

    def slot(self, number: int) -> int | None:
        for volume in self.chain():
            if number in volume.blocks:
                return volume.blocks[number]
        return None


class Collected(NamedTuple):
    """A base that went."""

    id: str
    heir: str
    """The volume that took its data, or ""."""
    size: int
    """Bytes of data it had."""
    grown: int
    """Bytes by which the heir grew."""


class Blocks:
    """All volumes of a lab, by id (for a VDI's leaf: the VDI's uuid)."""

    def __init__(self, *, kept: bool = False) -> None:
        """`kept`: changes are noted for `take_changes`, which somebody calls now and then."""
        self.volumes: dict[str, Volume] = {}
        self._kept = kept
        self._slots = _Slots()
        self._changed: dict[str, set[int]] = {}
        self._gone: set[str] = set()

    def close(self) -> None:
        """Give the file back now; what nobody refers to any more gives it back by itself."""
        self._slots.close()

    # --- volumes

    def get(self, name: str) -> Volume:
        """The volume of that id; made empty when there is none."""
        volume = self.volumes.get(name)
        if volume is None:
            volume = self.volumes[name] = Volume(name)
        return volume

    def branch(self, source: str, new: str, base: str) -> Volume | None:
        """Make `new` a copy-on-write copy of `source`.

        What the source holds becomes a hidden base called `base`, below both. A source that wrote
        nothing since it was last copied shares its base once more; then None is answered.
        """
        volume = self.get(source)
        if volume.parent is not None and not volume.blocks:
            self._attach(self.get(new), volume.parent)
            return None
        hidden = self.get(base)
        hidden.hidden = True
        hidden.blocks, volume.blocks = volume.blocks, {}
        self._note_gone(source)
        self._note_changed(base, *hidden.blocks)
        parent = volume.parent
        if parent is not None:
            self._detach(volume)
            self._attach(hidden, parent)
        self._attach(volume, hidden)
        self._attach(self.get(new), hidden)
        return hidden

    def copy(self, source: str, target: str) -> None:
        """Make `target` hold what `source` does, sharing nothing but the places of equal data."""
        for number, slot in self._flat(self.get(source)).items():
            self._set(self.get(target), number, self._slots.share(slot))

    def clear(self, name: str) -> None:
        """Throw away what was written since the volume was last copied."""
        self._release(self.get(name))

    def remove(self, name: str) -> None:
        """Forget a leaf. Its bases stay until `collect`."""
        volume = self.volumes.pop(name, None)
        if volume is None:
            return
        assert not volume.children, f"{name} is a base"
        self._release(volume)
        if volume.parent is not None:
            self._detach(volume)

    def collect(self, below: Volume) -> list[Collected]:
        """Clear up around a base: one without children goes, one with a single child is merged."""
        done: list[Collected] = []
        base: Volume | None = below
        while base is not None and base.hidden and len(base.children) < 2:
            parent, child = base.parent, next(iter(base.children), None)
            if child is not None and child.pinned:
                break
            size, grown = base.allocated, 0
            if child is not None:
                grown = self._merge(base, child)
            self.volumes.pop(base.id, None)
            self._release(base)
            if parent is not None:
                self._detach(base)
                if child is not None:
                    self._attach(child, parent)
            done.append(Collected(base.id, child.id if child is not None else "", size, grown))
            base = parent
        return done

    def _merge(self, base: Volume, child: Volume) -> int:
        before = child.allocated
        for number, slot in base.blocks.items():
            if number not in child.blocks:
                child.blocks[number] = slot if slot is None else self._slots.share(slot)
                self._note_changed(child.id, number)
        self._detach(child)
        return child.allocated - before

    def _release(self, volume: Volume) -> None:
        for slot in volume.blocks.values():
            if slot is not None:
                self._slots.drop(slot)
        volume.blocks = {}
        self._note_gone(volume.id)

    @staticmethod
    def _attach(volume: Volume, parent: Volume) -> None:
        volume.parent = parent
        parent.children.add(volume)

    @staticmethod
    def _detach(volume: Volume) -> None:
        if volume.parent is not None:
            volume.parent.children.discard(volume)
            volume.parent = None

    # --- data

    def read(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; what was never written is zeros."""
        volume = self.volumes.get(name)
        if volume is None:
            return bytes(length)
        pieces = []
        while length > 0:
            number, start = divmod(offset, BLOCK)
            size = min(BLOCK - start, length)
            slot = volume.slot(number)
            data = _ZEROS if slot is None else self._slots.get(slot)
            pieces.append(data[start : start + size])
            offset, length = offset + size, length - size
        return b"".join(pieces)

    def write(self, name: str, offset: int, data: bytes) -> int:
        """Write and answer by how many bytes the volume's own data grew."""
        volume = self.get(name)
        before = len(volume.blocks)
        view = memoryview(data)
        while view:
            number, start = divmod(offset, BLOCK)
            size = min(BLOCK - start, len(view))
            self._write_block(volume, number, start, bytes(view[:size]))
            offset, view = offset + size, view[size:]
        return BLOCK * (len(volume.blocks) - before)

    def zero(self, name: str, offset: int, length: int) -> int:
        """Write zeros, at a cost of what is there, not of `length`; answers as `write` does."""
        volume = self.get(name)
        before = len(volume.blocks)
        end = offset + length
        for number in self._filled(volume, offset // BLOCK, (end + BLOCK - 1) // BLOCK):
            start = max(offset - number * BLOCK, 0)
            self._write_block(
                volume, number, start, bytes(min(end - number * BLOCK, BLOCK) - start)
            )
        return BLOCK * (len(volume.blocks) - before)

    @staticmethod
    def _filled(volume: Volume, first: int, last: int) -> set[int]:
        """Blocks of a range (without `last`) of which some link of the chain has something."""
        wanted = range(first, last)
        filled: set[int] = set()
        for link in volume.chain():
            few = wanted if len(wanted) < len(link.blocks) else link.blocks
            filled |= {n for n in few if n in link.blocks and n in wanted}
        return filled

    def _write_block(self, volume: Volume, number: int, start: int, data: bytes) -> None:
        slot = volume.slot(number)
        if slot is None and _is_zeros(data):
            return
        if len(data) < BLOCK:
            old = _ZEROS if slot is None else self._slots.get(slot)
            data = old[:start] + data + old[start + len(data) :]
        if not _is_zeros(data):
            self._set(volume, number, self._slots.put(data))
        else:
            covers = volume.parent is not None and volume.parent.slot(number) is not None
            self._set(volume, number, None if covers else _UNSET)

    def _set(self, volume: Volume, number: int, slot: int | None) -> None:
        old = volume.blocks.pop(number, None)
        if old is not None:
            self._slots.drop(old)
        if slot != _UNSET:
            volume.blocks[number] = slot
        self._note_changed(volume.id, number)

    def used_blocks(self, name: str) -> list[int]:
        """The numbers of the blocks that hold data, in order."""
        volume = self.volumes.get(name)
        return [] if volume is None else sorted(self._flat(volume))

    @staticmethod
    def _flat(volume: Volume) -> dict[int, int]:
        flat: dict[int, int | None] = {}
        for link in volume.chain():
            for number, slot in link.blocks.items():
                flat.setdefault(number, slot)
        return {number: slot for number, slot in flat.items() if slot is not None}

    # --- keeping

    def _note_changed(self, name: str, *numbers: int) -> None:
        if self._kept:
            self._changed.setdefault(name, set()).update(numbers)

    def _note_gone(self, name: str) -> None:
        self._changed.pop(name, None)
        if self._kept:
            self._gone.add(name)

    def take_changes(self) -> tuple[dict[str, dict[int, bytes]], set[str]]:
        """Blocks written and volumes emptied since the last time, to be stored in that order:
        first forget the emptied ones, then write. A hole is stored as no bytes."""
        changed = {
            name: {n: self._stored(self.volumes[name].blocks.get(n)) for n in numbers}
            for name, numbers in self._changed.items()
            if name in self.volumes
        }
        gone, self._changed, self._gone = self._gone, {}, set()
        return changed, gone

    def _stored(self, slot: int | None) -> bytes:
        return b"" if slot is None else self._slots.get(slot)

    def describe(self) -> list[dict[str, Any]]:
        """The chains, without data; what `restore` needs beside the stored blocks."""
        return [
            {
                "id": v.id,
                "parent": v.parent.id if v.parent else "",
                "hidden": v.hidden,
                "pinned": v.pinned,
            }
            for v in self.volumes.values()
            if v.parent is not None or v.hidden
        ]

    def restore(
        self, chains: Iterable[dict[str, Any]], blocks: Iterable[tuple[str, int, bytes]]
    ) -> None:
        """Become what `describe` and the stored blocks say."""
        for link in chains:
            volume = self.get(link["id"])
            volume.hidden, volume.pinned = link["hidden"], link["pinned"]
            if link["parent"]:
                self._attach(volume, self.get(link["parent"]))
        for name, number, data in blocks:
            self.get(name).blocks[number] = self._slots.put(data) if data else None
        self._changed, self._gone = {}, set()


def _is_zeros(data: bytes) -> bool:
    return data == (_ZEROS if len(data) == BLOCK else bytes(len(data)))


_UNSET = -1
"""In place of a slot: the volume has nothing of its own there."""
