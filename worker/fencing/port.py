"""What fencing needs of the machine under a host. Stdlib only.

A host is fenced when its machine is proven to have no power: what a management controller answers to a
request proves nothing, only its power state, read back afterwards, does.
"""

from enum import StrEnum
from typing import ClassVar, Protocol


class PowerState(StrEnum):
    """Of a machine. Changing: on its way from one to the other. Unknown: its controller cannot tell."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"
    UNKNOWN = "unknown"


class FencingError(Exception):
    """Base of what a fence may raise; nothing else may cross the port.

    None of them says that the machine has power, nor that it has none. `reason` is a word of ours, stable,
    for programs and journals; `str()` is for operators.
    """

    sentence: ClassVar[str] = "Fencing failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.sentence} ({reason}).")
        self.reason = reason


class FenceUnreachable(FencingError):
    """No answer in time, or none that means anything."""

    sentence = "The machine's management controller did not answer"


class FenceRefused(FencingError):
    """The controller answered, and will not: wrong credentials, no such action, an error of its own."""

    sentence = "The machine's management controller refused"


class NotProven(FencingError):
    """It may have obeyed, but "off" could not be read back twice in time."""

    sentence = "The machine is not proven to be off"


class Fence(Protocol):
    """The power switch of one machine. Each call has an end in time, and may be repeated."""

    def power_state(self) -> PowerState:
        """What its controller says now. Raises FenceUnreachable, FenceRefused."""

    def power_off(self) -> None:
        """Cut the power at once, with no shutdown; returns only when "off" was read twice in a row.

        A machine that is off already is left so. Takes less than a minute. Raises FenceUnreachable,
        FenceRefused, NotProven: after any of these nothing may be done about the host's VMs.
        """

    def power_on(self) -> None:
        """Give it power; returns when it was asked for, long before it boots. One that is on is left so.

        Raises FenceUnreachable, FenceRefused.
        """
