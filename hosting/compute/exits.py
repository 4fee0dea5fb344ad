"""How containers ended, as their guests tell it (docs/guest.md, `vm-data/exit`) and as Docker numbers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A guest writes what it likes.
_TOLD = re.compile(r"(code|signal) (\d{1,3})|failed ([^\x00-\x1f\x7f]{1,200})")
NOT_STARTED = 125
"""As `docker run` answers when it could not start the container at all."""
BY_SIGNAL = 128


@dataclass(frozen=True, slots=True)
class Exit:
    """`code` is what `docker run` would have returned: 0 to 255; `reason` is for people."""

    code: int
    reason: str


def exit_of(told: Mapping[str, str] | None) -> Exit | None:
    """From what the guest wrote below vm-data/; None when it did not say, or said nothing that means anything."""
    said = _TOLD.fullmatch((told or {}).get("exit", ""))
    if said is None:
        return None
    kind, number, why = said.groups()
    if why is not None:
        return Exit(NOT_STARTED, f"It could not be started: {why}.")
    code = int(number) + (BY_SIGNAL if kind == "signal" else 0)
    if code > 255:
        return None
    return Exit(code, f"Ended by signal {number}." if kind == "signal" else f"Ended with {number}.")
