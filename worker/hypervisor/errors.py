"""What a driver may raise: five errors, and a sixth for our own bugs."""

from typing import ClassVar


class HypervisorError(Exception):
    """Base of what a driver may raise; nothing else may cross the port.

    `reason` is a word of ours, stable, fit for programs and journals. `str()` is a sentence without
    names or addresses of the pool, so it may be shown to a tenant. What the hypervisor itself said
    stays in `__cause__`, for operators. `may_have_happened` is true when the call may have taken
    effect although it failed: look before doing it again.
    """

    sentence: ClassVar[str] = "The hypervisor call failed"

    def __init__(self, reason: str, *, may_have_happened: bool = False) -> None:
        super().__init__(f"{self.sentence} ({reason}).")
        self.reason = reason
        self.may_have_happened = may_have_happened


class Unreachable(HypervisorError):
    """No answer in time, or none that means anything. See `may_have_happened`."""

    sentence = "The pool did not answer"


class Busy(HypervisorError):
    """Not now: another operation holds the object, or our view of it was stale. Look again later."""

    sentence = "The object is busy"


class Refused(HypervisorError):
    """The hypervisor will never accept this call as it stands."""

    sentence = "The hypervisor refused the call"


class NoRoom(HypervisorError):
    """The chosen host or SR cannot take it; another might."""

    sentence = "There is no room at the chosen place"


class Gone(HypervisorError):
    """The object named is not there."""

    sentence = "The object does not exist"


class UntranslatedFailure(Exception):
    """The hypervisor said something the driver's table does not know: a bug of ours.

    Not a `HypervisorError`, so that no workflow takes its way back because of it. `code` is for the
    journal and the alarm; parameters of the failure are only in `__cause__`.
    """

    def __init__(self, code: str, *, may_have_happened: bool = True) -> None:
        super().__init__(f"The hypervisor answered with an error that is not known here ({code}).")
        self.code = code
        self.may_have_happened = may_have_happened
