"""A child that is a copy of this process and runs a function: what is loaded needs not be loaded again.

As much of subprocess.Popen as the supervisor uses. The caller must have a single thread.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from deploy.local.leash import call_itself

_HANDLED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Fork:
    """Leads a process group of its own; `stdout` is what it says, errors too."""

    def __init__(
        self,
        run: Callable[[], None],
        *,
        name: str,
        environment: Mapping[str, str],
        cwd: str,
        inherits: Sequence[int],
        tie: Callable[[], None] | None,
    ) -> None:
        read, write = os.pipe()
        sys.stdout.flush()
        self.returncode: int | None = None
        # A signal that comes while the child still has our handlers would be taken for one of ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _live(run, name, environment, cwd, {write, *inherits}, write, tie)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write)
        self.stdout: BinaryIO = os.fdopen(read, "rb", buffering=0)

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code. It must have been killed: `timeout` is not looked at."""
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _live(
    run: Callable[[], None],
    name: str,
    environment: Mapping[str, str],
    cwd: str,
    kept: set[int],
    output: int,
    tie: Callable[[], None] | None,
) -> None:
    """The child's whole life. Never returns: the frames below are the parent's."""
    code = 1
    try:
        _become_one_of_its_own(kept, output, tie)
        call_itself(name)
        os.environ.update(environment)
        os.chdir(cwd)
        run()
        code = 0
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _become_one_of_its_own(kept: set[int], output: int, tie: Callable[[], None] | None) -> None:
    """No signal handler, no open file and no terminal of the parent's."""
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    os.setpgid(0, 0)
    if tie is not None:
        tie()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    last = 2
    for file in sorted(kept - {output, 0, 1, 2}):
        os.closerange(last + 1, file)
        last = file
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def _code_of(end: SystemExit) -> int:
    """As the interpreter itself reads it."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr)
    return 1
