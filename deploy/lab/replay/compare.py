"""Walks a recorded answer beside ours: binds names, and tells where the two differ."""

from __future__ import annotations

import itertools
import re
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploy.lab.replay import metadata, rules
from deploy.lab.replay.matching import Matching
from deploy.lab.replay.names import NAME, Names, is_name, is_reference
from deploy.lab.replay.places import MISSING, Difference, Facts, Place
from deploy.lab.replay.texts import Texts
from deploy.lab.replay.wire import from_python


class Comparison:
    """Compares answers of one scenario."""

    def __init__(self, names: Names, facts: Facts) -> None:
        self.names = names
        self.facts = facts
        self._texts = Texts(names, facts)

    # --- whole answers ---------------------------------------------------------------------------

    def result(self, call: str, expected: Any, got: Any, place: Place) -> list[Difference]:
        """Compare a result as the call's kind demands."""
        if rules.ignored_result(call):
            return []
        if isinstance(expected, dict) and set(expected) == {"count"} and isinstance(got, list):
            return self.value(expected["count"], len(got), replace(place, path=place.at("count")))
        class_name, _, method = call.rpartition(".")
        if method == "get_record":
            return self.value(expected, got, place.in_record(class_name, place.subject))
        if method in ("get_all_records", "get_all_records_where") or call in (
            "message.get",
            "message.get_since",
        ):
            return self._records(expected, got, replace(place, class_name=class_name))
        if call in ("event.from", "event.next"):
            return self.value(expected, got, place)
        if method.startswith("get_") and not class_name.startswith("Async"):
            getter = replace(place, class_name=class_name, field=method.removeprefix("get_"))
            return self.value(expected, got, getter)
        return self.value(expected, got, place)

    def _records(self, expected: Any, got: Any, place: Place) -> list[Difference]:
        if not isinstance(expected, dict) or not isinstance(got, dict):
            return self.value(expected, got, place)
        return self._map(expected, got, place, records=True)

    def error(self, expected: Sequence[str], got: Sequence[str], path: str) -> list[Difference]:
        """Compare an error: the code exactly, then the parameters."""
        if not expected or not got:
            return [] if list(expected) == list(got) else [Difference(path, expected, got)]
        if not rules.same_error_code(expected[0], got[0]):
            return [Difference(path, list(expected), list(got))]
        if expected[0] != got[0] or rules.error_parameters(expected[0]):
            return []
        if expected[0].startswith("SR_BACKEND_FAILURE_"):
            return []
        mark = self.names.mark()
        place = Place(path=path)
        if len(expected) == len(got):
            found = [self.value(e, g, place) for e, g in zip(expected, got, strict=True)]
            if not any(found):
                return []
        self.names.undo(mark)
        return [Difference(path, list(expected), list(got))]

    # --- values --------------------------------------------------------------------------------

    def value(self, expected: Any, got: Any, place: Place) -> list[Difference]:
        if place.field and rules.ignored_field(place.class_name, place.field, place.key):
            return []
        if rules.is_shared_sum(place.class_name, place.field):
            return []
        if place.field == "snapshot_metadata" and isinstance(expected, str) and expected:
            return self._metadata(expected, str(got), place)
        if isinstance(expected, str):
            return self._text(expected, got, place)
        if isinstance(expected, dict):
            return self._dict(expected, got, place)
        if isinstance(expected, list):
            return self._list(expected, got, place)
        if isinstance(expected, float) and isinstance(got, float):
            same = abs(expected - got) <= 1e-9 * max(1.0, abs(expected))
        else:
            same = type(expected) is type(got) and expected == got
        return [] if same else [Difference(place.path, expected, got)]

    def _text(self, expected: str, got: Any, place: Place) -> list[Difference]:
        if not isinstance(got, str):
            return [Difference(place.path, expected, got)]
        if place.class_name == "task" and place.field == "result" and "<value>" in expected:
            same = self._same_task_result(expected, got, place)
        else:
            same = self._texts.agree(expected, got, place)
        if same:
            return []
        return [Difference(place.path, self.shown(expected), got)]

    def _same_task_result(self, expected: str, got: str, place: Place) -> bool:
        """Compare a task's result, which is XML in a string, as the value it stands for."""
        if re.fullmatch(r"<value>.*</value>", got, re.DOTALL) is None:
            return False
        shielded = NAME.sub(lambda found: f"&lt;{found.group()[1:-1]}&gt;", expected)
        try:
            wanted, came = _parse_value(shielded), _parse_value(got)
        except Exception:
            return self.names.match(expected, got)
        mark = self.names.mark()
        if not self.value(wanted, came, Place(path=place.path, call=place.call)):
            return True
        self.names.undo(mark)
        return False

    def _metadata(self, expected: str, got: str, place: Place) -> list[Difference]:
        """Compare a snapshot's copy of the VM's record, which is an s-expression."""
        wanted, came = metadata.fields(expected), metadata.fields(got)
        if wanted is None or came is None:
            return [Difference(place.path, expected, got)]
        inner = place.in_record("VM", str(came.get("_ref", "")))
        return self._map(wanted, came, inner)

    def shown(self, expected: Any) -> Any:
        """A recorded value for the report: bound names with what they are bound to."""
        if isinstance(expected, str) and is_name(expected) and expected in self.names:
            return f"{expected}={self.names.values[expected]}"
        return expected

    # --- maps ------------------------------------------------------------------------------------

    def _dict(self, expected: dict[str, Any], got: Any, place: Place) -> list[Difference]:
        if set(expected) == {"$dateTime"}:
            return self._moment(expected, got, place)
        if not isinstance(got, dict):
            return [Difference(place.path, expected, got)]
        if "events" in expected and "valid_ref_counts" in expected:
            return self._event_batch(expected, got, place)
        if "snapshot" in expected and "operation" in expected:
            return self._event(expected, got, place)
        return self._map(expected, got, place)

    def _moment(self, expected: dict[str, Any], got: Any, place: Place) -> list[Difference]:
        text = got.get("$dateTime") if isinstance(got, dict) else None
        if isinstance(text, str) and self.names.match(str(expected["$dateTime"]), text):
            return []
        return [Difference(place.path, expected, got)]

    def _map(
        self,
        expected: Mapping[str, Any],
        got: Mapping[str, Any],
        place: Place,
        *,
        records: bool = False,
    ) -> list[Difference]:
        found: list[Difference] = []
        rest = dict(got)
        unsure: dict[str, Any] = {}
        for key, value in expected.items():
            if self.names.unbound_in(key):
                unsure[key] = value
                continue
            actual = self._texts.filled(key)
            inner = self._member(place, key, actual, records=records)
            if actual in rest:
                found += self.value(value, rest.pop(actual), inner)
            elif not self._is_ignored(inner):
                found.append(Difference(inner.path, value, MISSING))
        found += self._unsure_keys(unsure, rest, place, records=records)
        if records or not place.partial:
            for key, value in rest.items():
                inner = self._member(place, key, key, records=records)
                if not self._is_ignored(inner):
                    found.append(Difference(inner.path, MISSING, value))
        return found

    def _is_ignored(self, place: Place) -> bool:
        return bool(place.field and rules.ignored_field(place.class_name, place.field, place.key))

    def _member(self, place: Place, key: str, actual: str, *, records: bool) -> Place:
        path = place.at(key)
        if records:
            return replace(place, path=path, field="", key="", subject=actual)
        if place.class_name and not place.field:
            return replace(place, path=path, field=key, partial=False)
        if place.field and not place.key:
            return replace(place, path=path, key=key, partial=False)
        return replace(place, path=path, partial=False)

    def _unsure_keys(
        self,
        expected: Mapping[str, Any],
        rest: dict[str, Any],
        place: Place,
        *,
        records: bool,
    ) -> list[Difference]:
        """Keys that hold unbound names: each takes the key whose value suits it best."""
        found: list[Difference] = []
        for key, value in expected.items():
            best: tuple[int, str] | None = None
            for candidate, actual in rest.items():
                mark = self.names.mark()
                if self.names.match(key, candidate):
                    inner = self._member(place, key, candidate, records=records)
                    cost = len(self.value(value, actual, inner))
                    best = min(best or (cost, candidate), (cost, candidate), key=lambda b: b[0])
                self.names.undo(mark)
                if best and best[0] == 0:
                    break
            if key in self.facts.foreign and records and (best is None or best[0] > 0):
                continue
            if best is None:
                found.append(Difference(place.at(key), value, MISSING))
                continue
            self.names.match(key, best[1])
            inner = self._member(place, key, best[1], records=records)
            found += self.value(value, rest.pop(best[1]), inner)
        return found

    # --- events ----------------------------------------------------------------------------------

    def _event_batch(
        self, expected: dict[str, Any], got: dict[str, Any], place: Place
    ) -> list[Difference]:
        found: list[Difference] = []
        for key in expected:
            path = replace(place, path=place.at(key))
            if key not in got:
                found.append(Difference(path.path, expected[key], MISSING))
            elif key == "valid_ref_counts":
                found += self.ref_counts(expected[key], got[key], path.path)
            elif key == "events":
                found += self._events(expected[key], got[key], replace(path, field="events"))
            else:
                found += self.value(expected[key], got[key], path)
        found += [
            Difference(place.at(key), MISSING, got[key]) for key in got if key not in expected
        ]
        return found

    def _events(self, expected: list[Any], got: Any, place: Place) -> list[Difference]:
        if not isinstance(got, list):
            return [Difference(place.path, expected, got)]
        if not place.initial:
            return self._list(expected, got, place)
        wanted = [event for event in expected if not self._is_foreign_message(event)]
        came = [
            event
            for event in got
            if event.get("class") != "message"
            or self.names.is_known("message", str(event.get("ref")))
        ]
        return self._list(wanted, came, place)

    def _is_foreign_message(self, event: Mapping[str, Any]) -> bool:
        """A message that another scenario left (rule `counts`): never bound to anything."""
        return event.get("class") == "message" and str(event.get("ref")) not in self.names

    def _event(
        self, expected: dict[str, Any], got: dict[str, Any], place: Place
    ) -> list[Difference]:
        found: list[Difference] = []
        snapshot = expected.get("snapshot")
        for key in expected:
            if key == "snapshot":
                continue
            if key not in got:
                found.append(Difference(place.at(key), expected[key], MISSING))
            else:
                plain = Place(path=place.at(key))
                found += self.value(expected[key], got[key], plain)
        if snapshot in ("present", "absent"):
            if (snapshot == "present") != ("snapshot" in got):
                found.append(Difference(place.at("snapshot"), snapshot, got.get("snapshot")))
            return found
        class_name = self.facts.canonical.get(str(expected.get("class")), "")
        inner = place.in_record(class_name, str(got.get("ref", "")))
        inner = replace(inner, path=place.at("snapshot"), partial=False)
        return found + self.value(snapshot, got.get("snapshot", MISSING), inner)

    def ref_counts(self, expected: Any, got: Any, path: str) -> list[Difference]:
        """Compare numbers of objects: all may be off by what other scenarios left behind.

        By how much is learnt from the first count of a scenario; it has to stay so.
        """
        if not isinstance(got, dict) or not isinstance(expected, dict):
            return [Difference(path, expected, got)]
        found = []
        for name in sorted(expected.keys() | got.keys()):
            if name in rules.UNCOUNTED:
                continue
            if name not in got or name not in expected:
                found.append(
                    Difference(
                        f"{path}.{name}", expected.get(name, MISSING), got.get(name, MISSING)
                    )
                )
                continue
            offset = int(got[name]) - int(expected[name])
            if self.facts.offsets.setdefault(name, offset) != offset:
                found.append(Difference(f"{path}.{name}", expected[name], got[name]))
        return found

    # --- lists -----------------------------------------------------------------------------------

    def _list(self, expected: list[Any], got: Any, place: Place) -> list[Difference]:
        if not isinstance(got, list):
            return [Difference(place.path, expected, got)]
        if _is_error(expected) and _is_error(got) and place.field == "error_info":
            return self.error(expected, got, place.path)
        if rules.is_shared_set(place.class_name, place.field):
            return self._shared_set(expected, got, place)
        references = all(isinstance(m, str) and is_reference(m) for m in [*expected, *got])
        if rules.is_unordered(place.call, place.field, references=references):
            return self._set(expected, got, place)
        found = []
        for number, (wanted, actual) in enumerate(itertools.zip_longest(expected, got)):
            inner = replace(place, path=f"{place.path}[{number}]", partial=False)
            if number >= len(got):
                found.append(Difference(inner.path, wanted, MISSING))
            elif number >= len(expected):
                found.append(Difference(inner.path, MISSING, actual))
            else:
                found += self.value(wanted, actual, inner)
        return found

    def _shared_set(self, expected: list[Any], got: list[Any], place: Place) -> list[Difference]:
        """Compare only the members that have names bound already (rule `foreign`)."""
        wanted = {self.names.values[m]: m for m in expected if m in self.names}
        came = {m for m in got if isinstance(m, str) and self._is_named(m)}
        if f"{place.class_name}.{place.field}" == "host.resident_VMs":
            wanted = {v: n for v, n in wanted.items() if v not in self.facts.placed_at_random}
            came -= self.facts.placed_at_random
        found = [
            Difference(place.path, name, MISSING) for v, name in wanted.items() if v not in came
        ]
        return found + [Difference(place.path, MISSING, m) for m in sorted(came - set(wanted))]

    def _is_named(self, value: str) -> bool:
        return any(self.names.is_known(kind, value) for kind in ("VIF", "VDI", "VM"))

    def _set(self, expected: list[Any], got: list[Any], place: Place) -> list[Difference]:
        rest = list(got)
        unsure = []
        for member in expected:
            filled = self._texts.filled(member) if isinstance(member, str) else None
            if filled is not None and not self.names.unbound_in(member) and filled in rest:
                rest.remove(filled)
            else:
                unsure.append(member)
        self._identify(unsure, rest)
        inside = replace(place, field="", partial=False)
        pairs = Matching(self.names, lambda e, g: self.value(e, g, inside), unsure, rest).pairs()
        found = []
        for number, member in enumerate(unsure):
            inner = replace(place, path=f"{place.path}[{_label(member)}]", field="", partial=False)
            if number in pairs:
                found += self.value(member, rest[pairs[number]], inner)
            elif not self._is_foreign(member, expected, place):
                found.append(Difference(inner.path, self.shown(member), MISSING))
        for number, member in enumerate(rest):
            if number not in pairs.values() and not place.partial:
                found.append(Difference(f"{place.path}[]", MISSING, member))
        return found

    def _is_foreign(self, member: Any, all_members: Sequence[Any], place: Place) -> bool:
        """Whether a recorded member of a list of everything is another scenario's object.

        Of two fixed objects with one name the second is: it only has the same label.
        """
        if not place.initial and not rules.is_pool_wide(place.call):
            return False
        references = [_reference(other) for other in all_members]
        name = _reference(member)
        return name in self.facts.foreign or references.count(name) > 1

    def _identify(self, expected: list[Any], got: list[Any]) -> None:
        """Bind new references that could be one another's by what their records say."""
        unbound = [m for m in expected if isinstance(m, str) and is_name(m) and m not in self.names]
        if len(unbound) < 2 or len(got) < 2 or self.facts.identify is None:
            return
        candidates = [m for m in got if isinstance(m, str)]
        for name, value in self.facts.identify(unbound, candidates):
            self.names.bind(name, value)


def _reference(member: Any) -> Any:
    return member.get("ref") if isinstance(member, dict) else member


def _is_error(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _label(member: Any) -> str:
    if isinstance(member, dict):
        return " ".join(str(member[k]) for k in ("operation", "class", "ref") if k in member)
    return str(member)[:60]


def _parse_value(text: str) -> Any:
    """The value of a task's result.

    Raises whatever the parser raises when the text is no such value.
    """
    inner = f"<methodResponse><params><param>{text}</param></params></methodResponse>"
    (value,), _ = xmlrpc.client.loads(inner)
    return from_python(value)
