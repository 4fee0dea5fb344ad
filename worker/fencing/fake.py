"""A power switch in memory, with a clock of its own and the faults of real controllers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from worker.fencing.port import FenceRefused, FenceUnreachable, NotProven, PowerState

Fault = Literal["unreachable", "ignores", "refuses", "lies_once"]


class FakeFence:
    """A Fence. `on_power_off` and `on_power_on` are called when the machine's power really changes.

    Faults: `unreachable` never answers; `ignores` says yes and does nothing; `refuses` says no to every
    switching; `lies_once` tells "off" once, of a machine that is on.
    """

    def __init__(
        self,
        *,
        powered: bool = True,
        on_power_off: Callable[[], None] = lambda: None,
        on_power_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.powered = powered
        self.fault: Fault | None = None
        self.switched: list[str] = []
        """What was asked of it and not refused, oldest first."""
        self._on_power_off = on_power_off
        self._on_power_on = on_power_on

    def power_state(self) -> PowerState:
        if self.fault == "unreachable":
            raise FenceUnreachable("timeout")
        if self.fault == "lies_once":
            self.fault = "ignores"
            return PowerState.OFF
        return PowerState.ON if self.powered else PowerState.OFF

    def power_off(self) -> None:
        if self.power_state() is not PowerState.OFF:
            self._switch("off")
        if not self._reads_off_twice():
            raise NotProven("still_on")

    def power_on(self) -> None:
        if self.power_state() is not PowerState.ON:
            self._switch("on")

    def _reads_off_twice(self) -> bool:
        return self.power_state() is self.power_state() is PowerState.OFF

    def _switch(self, to: Literal["on", "off"]) -> None:
        if self.fault == "refuses":
            raise FenceRefused("http_503")
        self.switched.append(to)
        if self.fault == "ignores":
            return
        self.powered = to == "on"
        (self._on_power_on if self.powered else self._on_power_off)()
