"""Binds names that recordings use without showing where they came from.

"A name that appears first in a later step (found by a look-up that was not recorded, e.g. the
VBDs of a clone): bind it by reading the parent's record when first needed."
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.names import VALUES, Names, is_name, kind_of
from deploy.lab.replay.places import Place
from deploy.lab.replay.prepare import CallFailed, Inventory
from deploy.lab.replay.recording import Recording, Step

NULL = "OpaqueRef:NULL"

FUTURE_TOKEN = "00000000009999999999,00000000009999999999"
"""Stands for a token that no call had returned when it was sent: one of the future."""

_STABLE = [
    "VM",
    "VDI",
    "SR",
    "network",
    "host",
    "device",
    "userdevice",
    "type",
    "mode",
    "name_label",
    "name",
    "MAC",
    "class_name",
    "is_a_snapshot",
    "bootable",
    "empty",
    "cls",
    "obj_uuid",
    "protocol",
    "number",
    "VLAN",
    "tag",
    "snapshot_of",
    "key",
]
"""Fields that tell one new object from another and seldom change."""


class LateBinder:
    """Finds objects for names that nothing has bound."""

    def __init__(
        self,
        recording: Recording,
        inventory: Inventory,
        comparison: Comparison,
        call: Callable[..., Any],
        login: Callable[[], str],
    ) -> None:
        self._comparison = comparison
        self._names: Names = comparison.names
        self._call = call
        self._login = login
        self._evidence = _evidence_in(recording)
        self._parents = _parents_in(recording)
        self._before = {ref for records in inventory.records.values() for ref in records}
        self._left_behind: list[str] = []

    def bind(self, name: str, step: Step) -> bool:
        """Find and bind an object for the name, as this step needs it. False when there is none."""
        kind = kind_of(name)
        if kind == "token":
            return self._names.bind(name, FUTURE_TOKEN)
        if kind == "session":
            return self._names.bind(name, self._login())
        if kind.startswith("uuid:"):
            return self._bind_uuid(name)
        if kind in ("ref", "mac") or name in VALUES:
            return False
        try:
            candidates = self._candidates(name, kind, step)
        except CallFailed:
            return False  # a class whose objects cannot be listed
        return any(self._names.bind(name, candidate) for candidate in candidates)

    def _bind_uuid(self, name: str) -> bool:
        owner = f"<{name[len('<uuid:') :]}"
        if owner not in self._names:
            return False
        uuid = self._call(f"{kind_of(owner)}.get_uuid", self._names.values[owner])
        return self._names.bind(name, str(uuid))

    def _candidates(self, name: str, class_name: str, step: Step) -> list[str]:
        """Objects the name may stand for, the likeliest first."""
        if class_name == "VDI":
            unnamed = [v for v in self._left_behind if not self._names.is_known("VDI", v)]
            if unnamed:
                return unnamed
        if parent := self._by_parent(name):
            return [parent]
        records: dict[str, Any] = dict(self._call(f"{class_name}.get_all_records"))
        free = [
            reference for reference in records if not self._names.is_known(class_name, reference)
        ]
        new_first = sorted(free, key=lambda ref: ref in self._before)
        evidence = self._evidence.get(name, [])
        if not evidence:
            return new_first
        costs = {ref: self._unlike(class_name, evidence[0], records[ref]) for ref in new_first}
        others = self._fitting_others(name, class_name, records)
        likely = [ref for ref in new_first if costs[ref] == 0 or ref not in others]
        return sorted(likely, key=lambda ref: (ref in others, costs[ref]))

    def _by_parent(self, name: str) -> str | None:
        """The object in the field of a known object's record that the recording shows it in."""
        for owner, field in self._parents.get(name, ()):
            if owner not in self._names:
                continue
            try:
                record = self._call(f"{kind_of(owner)}.get_record", self._names.values[owner])
            except CallFailed:
                continue
            value = record.get(field)
            if isinstance(value, str) and value != NULL:
                return value
        return None

    def _fitting_others(
        self, name: str, class_name: str, records: Mapping[str, Mapping[str, Any]]
    ) -> set[str]:
        """Objects that other names, not bound yet either, fit: better left for those."""
        fitting: set[str] = set()
        for other in self._evidence.keys() | self._parents.keys():
            if other == name or other in self._names or kind_of(other) != class_name:
                continue
            if parent := self._by_parent(other):
                fitting.add(parent)
            elif other in self._evidence:
                shown = self._evidence[other][0]
                fitting |= {r for r in records if self._unlike(class_name, shown, records[r]) == 0}
        return fitting

    def _unlike(self, class_name: str, shown: Mapping[str, Any], record: Mapping[str, Any]) -> int:
        """How many differences there are between an object and what was recorded of it."""
        names = self._names
        mark = names.mark()
        place = Place(class_name=class_name, partial=True)
        found = self._comparison.value(dict(shown), dict(record), place)
        names.undo(mark)
        return len(found)

    def identify(self, unbound: Sequence[str], candidates: Sequence[str]) -> list[tuple[str, str]]:
        """Pair new names with new objects of one class by what the recording says of them later."""
        class_name = kind_of(unbound[0])
        if any(kind_of(name) != class_name or name not in self._evidence for name in unbound):
            return []
        try:
            records = {ref: self._call(f"{class_name}.get_record", ref) for ref in candidates}
        except CallFailed:
            return []
        costs = sorted(
            (self._mismatches(self._evidence[name][0], records[ref]), name, ref)
            for name in unbound
            for ref in candidates
            if not self._names.is_known(class_name, ref)
        )
        pairs: dict[str, str] = {}
        for _, name, reference in costs:
            if name not in pairs and reference not in pairs.values():
                pairs[name] = reference
        return list(pairs.items())

    def _mismatches(self, expected: Mapping[str, Any], record: Mapping[str, Any]) -> int:
        wrong = 0
        for field in _STABLE:
            value = expected.get(field)
            if not isinstance(value, str | bool) or field not in record:
                continue
            if isinstance(value, str) and self._names.unbound_in(value):
                continue
            known = self._names.values.get(value, value) if isinstance(value, str) else value
            wrong += known != record[field]
        return wrong

    def remember_disks(self, vm: str) -> None:
        """Note a VM's disks before it is destroyed: a later step may name them."""
        try:
            record = self._call("VM.get_record", vm)
            disks = [self._call("VBD.get_VDI", vbd) for vbd in record.get("VBDs", ())]
        except CallFailed:
            return  # there is no such VM; the step itself will say so
        disks.append(record.get("suspend_VDI", NULL))
        fresh = [d for d in disks if d != NULL and d not in self._before]
        self._left_behind = fresh + [d for d in self._left_behind if d not in fresh]

    def forget_disk(self, vdi: str) -> None:
        self._left_behind = [disk for disk in self._left_behind if disk != vdi]


def _parents_in(recording: Recording) -> dict[str, list[tuple[str, str]]]:
    """In which field of which known object's record each name is shown alone."""
    parents: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for _, step in recording.leaves():
        arguments, result = step.get("args", ()), step.get("result")
        if not str(step.get("call")).endswith(".get_record") or not isinstance(result, dict):
            continue
        for field, value in result.items():
            if isinstance(value, str) and is_name(value) and len(arguments) > 1:
                parents[value].append((str(arguments[1]), field))
    return parents


def _evidence_in(recording: Recording) -> dict[str, list[Mapping[str, Any]]]:
    """What the recording shows of each name's record, anywhere."""
    evidence: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for _, step in recording.leaves():
        call, arguments = str(step.get("call", "")), step.get("args", ())
        result = step.get("result")
        reply = step.get("reply")
        if result is None and isinstance(reply, dict):
            result = reply.get("result")
        is_creation = call.endswith(".create") and isinstance(result, str) and is_name(result)
        if is_creation and len(arguments) > 1 and isinstance(arguments[1], dict):
            evidence[str(result)].append(arguments[1])
        if not isinstance(result, dict):
            continue
        if call.endswith(".get_record") and len(arguments) > 1 and is_name(str(arguments[1])):
            evidence[arguments[1]].append(result)
        elif call.startswith("event."):
            for event in result.get("events", ()):
                if isinstance(event.get("snapshot"), dict):
                    evidence[event["ref"]].append(event["snapshot"])
        else:
            for key, value in result.items():
                if isinstance(value, dict) and is_name(key):
                    evidence[key].append(value)
    return evidence
