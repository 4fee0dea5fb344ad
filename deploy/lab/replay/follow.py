"""Events of some calls, followed while they were made, and compared object by object.

Which changes share a batch depends on timing, so an object's events are merged: what was added
and changed counts as added, what was changed and deleted as deleted, and of several changes only
what they come to. Objects that come and go within one follow (tasks of calls) may go unseen.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.lab.replay import rules
from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.places import MISSING, Difference, Place
from deploy.lab.replay.wire import Answer

FromEvents = Callable[[Sequence[str], str, float], Answer]
"""event.from(classes, token, timeout), over a connection of its own."""

QUIET = 1.0
"""Seconds on the pool's clock without an event after which a follow is over."""


@dataclass
class Track:
    """What became of one object during a follow."""

    class_name: str
    operations: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """Its fields at the end: all of them (ours), or those that were recorded."""
    before: dict[str, Any] | None = None
    """Its fields before, if it was there."""

    @property
    def outcome(self) -> str:
        """add, mod or del; "transient" for what came and went."""
        if self.operations[-1] == "del":
            return "transient" if self.operations[0] == "add" else "del"
        return "add" if "add" in self.operations else "mod"

    def changed_fields(self) -> set[str]:
        if self.before is None:
            return set(self.values)
        return {k for k, v in self.values.items() if self.before.get(k, MISSING) != v}


class Follower:
    """Calls event.from in a loop, in a thread, until told to stop."""

    def __init__(self, classes: Sequence[str], events: FromEvents) -> None:
        self._classes = classes
        self._events = events
        self._stop = threading.Event()
        self._seen: dict[str, dict[str, Any]] = {}
        self._batches: list[list[Mapping[str, Any]]] = []
        self._failure: str | None = None
        first = self._ask("", 0.0)
        self._token = str(first.get("token", ""))
        for event in first.get("events", ()):
            if isinstance(event.get("snapshot"), dict):
                self._seen[event["ref"]] = event["snapshot"]
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def _ask(self, token: str, timeout: float) -> Mapping[str, Any]:
        answer = self._events(self._classes, token, timeout)
        if not isinstance(answer.result, dict):
            self._failure = f"event.from answered {answer.error or answer.transport}"
            return {}
        return answer.result

    def _run(self) -> None:
        while self._failure is None:
            stopping = self._stop.is_set()
            answer = self._ask(self._token, QUIET)
            events = answer.get("events", [])
            self._token = str(answer.get("token", self._token))
            if events:
                self._batches.append(events)
            elif stopping:
                return

    def finish(self, patience: float) -> tuple[dict[str, Track], str | None]:
        """Wait for the last events; what became of every object, and why it failed if it did."""
        self._stop.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._failure = f"events had not ceased after {patience:g} s"
        tracks: dict[str, Track] = {}
        for batch in list(self._batches):
            for event in batch:
                ref = event["ref"]
                track = tracks.get(ref)
                if track is None:
                    before = self._seen.get(ref)
                    track = tracks[ref] = Track(event["class"], before=before)
                track.operations.append(event["operation"])
                if isinstance(event.get("snapshot"), dict):
                    track.values = dict(event["snapshot"])
        return tracks, self._failure


def recorded_tracks(batches: Sequence[Mapping[str, Any]]) -> dict[str, Track]:
    tracks: dict[str, Track] = {}
    for batch in batches:
        for event in batch["events"]:
            track = tracks.setdefault(event["ref"], Track(event["class"]))
            track.operations.append(event["operation"])
            track.values.update(event.get("first", event.get("changed", {})))
    return tracks


class FollowComparison:
    """Compares what became of each object."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._names = comparison.names

    def differences(
        self, expected: Mapping[str, Track], got: Mapping[str, Track]
    ) -> list[Difference]:
        rest = dict(got)
        found: list[Difference] = []
        known = {n: t for n, t in expected.items() if n in self._names}
        for name, track in known.items():
            actual = rest.pop(self._names.values[name], None)
            if actual is None and track.class_name == "host":
                actual = self._chosen_host(rest)
                track.values.pop("resident_VMs", None)  # those of the other host
            found += self._known(name, track, actual)
        fresh: dict[str, dict[str, Track]] = defaultdict(dict)
        for name, track in expected.items():
            if name not in known:
                fresh[track.class_name][name] = track
        for tracks in fresh.values():
            found += self._fresh(tracks, rest)
        for ref, track in rest.items():
            found += self._extra(ref, track)
        return found

    def _chosen_host(self, rest: dict[str, Track]) -> Track | None:
        """What became of the host that the pool chose instead of the recorded one."""
        if not self._comparison.facts.any_placed_at_random:
            return None
        changed = (ref for ref, track in rest.items() if track.class_name == "host")
        chosen = next(changed, None)
        return rest.pop(chosen) if chosen else None

    def _known(self, name: str, expected: Track, got: Track | None) -> list[Difference]:
        path = f"follow.{expected.class_name} {name}"
        if got is None:
            if expected.outcome in ("mod", "transient") and not expected.values:
                return []  # a write that changed nothing
            if expected.class_name == "task" and expected.outcome == "del":
                return []  # the end of an earlier call, told again
            return [Difference(path, expected.outcome, MISSING)]
        if expected.outcome != got.outcome:
            if expected.class_name == "task" and "transient" in (expected.outcome, got.outcome):
                return []
            return [Difference(path, expected.outcome, got.outcome)]
        return self._fields(path, expected, got, self._names.values[name])

    def _fields(self, path: str, expected: Track, got: Track, ref: str) -> list[Difference]:
        if expected.outcome in ("del", "transient"):
            return []
        place = self._place(path, expected.class_name, ref)
        found: list[Difference] = []
        for name, value in expected.values.items():
            inner = replace(place, path=place.at(name), field=name)
            actual = got.values.get(name, MISSING)
            found += self._comparison.value(value, actual, inner)
        if expected.outcome == "mod":
            for name in sorted(got.changed_fields() - expected.values.keys()):
                if not self._is_ignored(place.class_name, name, got.values[name]):
                    found.append(Difference(place.at(name), "(unchanged)", got.values[name]))
        return found

    def _place(self, path: str, class_name: str, ref: str) -> Place:
        canonical = self._comparison.facts.canonical.get(class_name, class_name)
        return Place(path=path, class_name=canonical, subject=ref)

    def _is_ignored(self, class_name: str, name: str, value: Any) -> bool:
        if isinstance(value, dict) and "$dateTime" in value:
            return True  # Ignore: times
        return bool(
            rules.ignored_field(class_name, name)
            or rules.is_shared_sum(class_name, name)
            or rules.is_shared_set(class_name, name)
        )

    def _fresh(self, expected: Mapping[str, Track], rest: dict[str, Track]) -> list[Difference]:
        """Objects without a name yet: each recorded one takes ours that is most like it."""
        found: list[Difference] = []
        costs = []
        for name, track in expected.items():
            for ref, actual in rest.items():
                if actual.class_name == track.class_name and track.outcome == actual.outcome:
                    costs.append((self._cost(name, ref, track, actual), name, ref))
        pairs: dict[str, str] = {}
        for _, name, ref in sorted(costs):
            if name not in pairs and ref not in pairs.values():
                pairs[name] = ref
        for name, track in expected.items():
            if name not in pairs:
                if track.class_name != "task" and track.outcome != "transient":
                    path = f"follow.{track.class_name} {name}"
                    found.append(Difference(path, track.outcome, MISSING))
                continue
            ref = pairs[name]
            if track.class_name == "task" and self._cost(name, ref, track, rest[ref]) > 0:
                continue
            self._names.bind(name, ref)
            path = f"follow.{track.class_name} {name}"
            found += self._fields(path, track, rest.pop(ref), ref)
        return found

    def _cost(self, name: str, ref: str, expected: Track, got: Track) -> int:
        mark = self._names.mark()
        self._names.bind(name, ref)
        label = expected.values.get("name_label")
        cost = len(self._fields("", expected, got, ref))
        if label is not None and got.values and got.values.get("name_label") != label:
            cost += 10
        self._names.undo(mark)
        return cost

    def _extra(self, ref: str, track: Track) -> list[Difference]:
        if track.class_name == "task" or track.outcome == "transient":
            return []
        if track.outcome == "del" and track.before is None:
            return []  # it was gone before: its end is told again
        class_name = self._comparison.facts.canonical.get(track.class_name, track.class_name)
        if track.outcome == "mod" and all(
            self._is_ignored(class_name, name, track.values[name])
            for name in track.changed_fields()
        ):
            return []
        shown = {name: track.values[name] for name in sorted(track.changed_fields())}
        what = track.outcome if track.outcome != "mod" else {"mod": shown}
        return [Difference(f"follow.{track.class_name} {ref}", MISSING, what)]
