"""Children: tied to the life of the process that starts them, and with no more rights than needed."""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable
from typing import TypedDict

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def leash(death_signal: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `death_signal` to the child when its parent dies.

    Linux only; elsewhere None, and a parent killed with -9 leaves its children. To be called by the
    parent, in the thread that will fork: the kernel watches that thread.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        if prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # it died before the tie held
            os._exit(1)

    return tie


def call_itself(name: str) -> None:
    """Be listed under `name` by ps and top, of which Linux takes 15 bytes; elsewhere nothing happens."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


class As(TypedDict, total=False):
    """The arguments of subprocess.Popen that say whose rights a child has."""

    user: int
    group: int
    extra_groups: list[int]


def acting_as(account: str | None) -> As:
    """All of `account`'s rights and none of ours; None keeps ours. Raises KeyError when unknown."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
