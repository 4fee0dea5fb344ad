"""What an operator may do with a host, by the state it is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hosting.fleet.choices import WAITS_FOR_FENCE, HostState
from hosting.fleet.services import EVACUATE, RECOVER, RETURN


@dataclass(frozen=True, slots=True)
class Doing:
    """`verb` names its address. `asks_first`: it has a page that says what will happen."""

    verb: str
    label: str
    asks_first: bool = False
    is_grave: bool = False


CORDON = Doing("cordon", "Cordon")
UNCORDON = Doing("uncordon", "Uncordon")
DRAIN = Doing("drain", "Drain …", asks_first=True)
CANCEL_DRAIN = Doing("cancel-drain", "Call the draining off")
RETURN_TO_SERVICE = Doing("return", "Return to service")
REPAIRED = Doing("repaired", "It is repaired")
VOUCH = Doing("confirm-off", "Vouch that it is off …", asks_first=True, is_grave=True)


def doings_with(host: Any) -> list[Doing]:
    """`host` as `hosts_with_doings` gives it. The services have the last word."""
    state = HostState(host.state)
    if state == HostState.ACCEPTING:
        return [CORDON, DRAIN]
    if state == HostState.CORDONED:
        return [UNCORDON, DRAIN]
    if state == HostState.DRAINING:
        return [CANCEL_DRAIN] if host.doing == EVACUATE and not host.is_called_off else []
    if state == HostState.MAINTENANCE:
        return [RETURN_TO_SERVICE] if host.doing != RETURN else []
    if state in WAITS_FOR_FENCE:
        unproven = host.is_unfenced and host.doing == RECOVER and not host.is_confirmed_off
        return [VOUCH] if unproven else []
    return [REPAIRED] if host.live else []
