"""Keeps account of which VMs' hosts the pool chose itself (rule `placement`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.lab.replay.places import Facts

NULL = "OpaqueRef:NULL"

_CHOOSING = {"start", "resume"}
_CHOSEN = {"start_on", "resume_on", "pool_migrate", "migrate_send"}


class Placement:
    """Told of every call; marks VMs in the scenario's facts."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._affinity: dict[str, str] = {}

    def observe(self, call: str, args: Sequence[Any], result: Any) -> None:
        """`args` are the real ones, the session first; `result` is None when the call failed."""
        class_name, _, method = call.removeprefix("Async.").partition(".")
        if class_name == "host" and method == "evacuate":
            # The plan decides which of the other hosts takes each VM.
            self._facts.any_placed_at_random = True
            self._facts.placed_at_random |= self._facts.started
            return
        if class_name != "VM" or len(args) < 2:
            return
        subject = args[1]
        if method == "create" and isinstance(subject, dict) and isinstance(result, str):
            self._affinity[result] = str(subject.get("affinity", NULL))
        elif not isinstance(subject, str):
            return
        elif method == "set_affinity" and len(args) > 2 and result is not None:
            self._affinity[subject] = str(args[2])
        elif method in _CHOSEN:
            self._facts.started.add(subject)
            self._facts.placed_at_random.discard(subject)
        elif method in _CHOOSING:
            self._facts.started.add(subject)
            if self._affinity.get(subject, NULL) == NULL:
                self._facts.placed_at_random.add(subject)
                self._facts.any_placed_at_random = True
