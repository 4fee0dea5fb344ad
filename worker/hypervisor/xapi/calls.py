"""Calls on objects named by UUID: references are looked up here and stay here."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

from worker.hypervisor.port import Gone, TaskHandle
from worker.hypervisor.xapi.records import Raw, is_null, task_handle
from worker.hypervisor.xapi.session import PoolSession

T = TypeVar("T")

NAMES: Final[Mapping[str, str]] = {"vm": "VM", "vdi": "VDI", "vbd": "VBD", "vif": "VIF", "sr": "SR"}
"""Class names in calls where they differ from the lower-case ones in events."""

MAX_KNOWN: Final = 100_000


class Calls:
    """The pool's session, with a memory of which UUID is which reference."""

    def __init__(self, session: PoolSession) -> None:
        self.session = session
        self._refs: dict[tuple[str, UUID], str] = {}
        self._uuids: dict[str, UUID] = {}

    # names --------------------------------------------------------------------------------------

    def ref(self, kind: str, uuid: UUID) -> str:
        """Raises Gone."""
        known = self._refs.get((kind, uuid))
        return known if known is not None else self._look_up(kind, uuid)

    def _look_up(self, kind: str, uuid: UUID) -> str:
        ref = str(self.session.read(f"{kind}.get_by_uuid", str(uuid)))
        self.learn(kind, ref, uuid)
        return ref

    def learn(self, kind: str, ref: str, uuid: UUID) -> None:
        if len(self._refs) >= MAX_KNOWN:
            self._refs.clear()
            self._uuids.clear()
        self._refs[(kind, uuid)] = ref
        self._uuids[ref] = uuid

    def resolve(self, kind: str, ref: str) -> UUID | None:
        """The UUID behind a reference (a `records.Resolver`); None if it is null or gone."""
        if is_null(ref):
            return None
        known = self._uuids.get(ref)
        if known is not None or kind == "*":
            return known
        name = NAMES.get(kind, kind)
        try:
            uuid = UUID(self.session.read(f"{name}.get_uuid", ref))
        except Gone:
            return None
        self.learn(name, ref, uuid)
        return uuid

    def on(self, kind: str, uuid: UUID, act: Callable[[str], T]) -> T:
        """`act(reference)`; a reference that we remembered wrongly is looked up once more."""
        remembered = self._refs.get((kind, uuid))
        try:
            return act(remembered if remembered is not None else self._look_up(kind, uuid))
        except Gone:
            if remembered is None:
                raise
            self._refs.pop((kind, uuid), None)
            fresh = self._look_up(kind, uuid)
            if fresh == remembered:
                raise
        return act(fresh)

    # calls --------------------------------------------------------------------------------------

    def call(self, method: str, *args: object, timeout: float | None = None) -> Any:
        return self.session.call(method, *args, timeout=timeout)

    def read(self, method: str, *args: object) -> Any:
        return self.session.read(method, *args)

    def start(self, method: str, *args: object) -> TaskHandle:
        """The asynchronous form of a call: it has begun, or will, when this returns."""
        return task_handle(str(self.session.call(f"Async.{method}", *args)))

    # records ------------------------------------------------------------------------------------

    def record(self, kind: str, uuid: UUID) -> Raw:
        """Raises Gone."""
        raw: Raw = self.on(kind, uuid, lambda ref: self.read(f"{kind}.get_record", ref))
        return raw

    def record_of(self, kind: str, ref: str) -> Raw:
        raw: Raw = self.read(f"{kind}.get_record", ref)
        self.learn(kind, ref, UUID(raw["uuid"]))
        return raw

    def all_records(self, kind: str) -> dict[str, Raw]:
        return self._learned(kind, self.read(f"{kind}.get_all_records"))

    def where(self, kind: str, **fields: str | bool) -> dict[str, Raw]:
        """Records whose fields have these values, by reference (get_all_records_where)."""
        terms = [f'field "{name}"={_literal(value)}' for name, value in fields.items()]
        found = self.read(f"{kind}.get_all_records_where", " and ".join(terms))
        return self._learned(kind, found)

    def named(self, kind: str, name: str) -> dict[str, Raw]:
        """Records of that name, by reference.

        Asked for by label: the pool then compares one field, and sends nothing when there is none,
        where an expression is worked out for every row that it has.
        """
        found: dict[str, Raw] = {}
        for ref in self.read(f"{kind}.get_by_name_label", name):
            try:
                found[ref] = self.record_of(kind, ref)
            except Gone:  # meanwhile
                continue
        return found

    def _learned(self, kind: str, found: dict[str, Raw]) -> dict[str, Raw]:
        for ref, raw in found.items():
            self.learn(kind, ref, UUID(raw["uuid"]))
        return found


def _literal(value: str | bool) -> str:
    if isinstance(value, bool):
        return '"true"' if value else '"false"'  # recorded: where_expressions
    if '"' in value or "\\" in value:
        raise ValueError("a name of ours has no quotes")
    return f'"{value}"'
