"""The supervisor with real processes, small ones; time passes as fast as they do."""

import io
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from deploy.demo import supervisor as supervision
from deploy.demo.console import Console
from deploy.demo.place import ROOT
from deploy.demo.supervisor import Child, GaveUp, Stopped, Supervisor


def python(name: str, code: str, **options: object) -> Child:
    return Child(name=name, argv=[sys.executable, "-u", "-c", textwrap.dedent(code)], **options)  # type: ignore[arg-type]


SLEEPER = "import signal; signal.pause()"


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 0.0)
    return Supervisor(Console(said))


def holds_text(said: io.StringIO, text: str) -> Callable[[], bool]:
    return lambda: text in said.getvalue()


def test_a_line_is_shown_with_who_said_it(supervisor: Supervisor, said: io.StringIO) -> None:
    with supervisor:
        supervisor.run(python("speaker", "print('hello')"), seconds=20)
    assert "   speaker │ hello\n" in said.getvalue()


def test_last_words_without_a_newline_are_shown(supervisor: Supervisor, said: io.StringIO) -> None:
    with supervisor:
        supervisor.run(python("speaker", "print('bye', end='')"), seconds=20)
    assert "   speaker │ bye\n" in said.getvalue()


def test_what_crashes_is_started_again_and_told(supervisor: Supervisor, said: io.StringIO) -> None:
    with supervisor:
        supervisor.start(python("fragile", "raise SystemExit(3)"))
        supervisor.wait_until(lambda: said.getvalue().count("ended") >= 2, "two ends", seconds=20)
    assert "fragile ended (exit code 3); starting it again in" in said.getvalue()


def test_pauses_grow(said: io.StringIO) -> None:
    with Supervisor(Console(said)) as supervisor:
        supervisor.start(python("fragile", "raise SystemExit(3)"))
        supervisor.wait_until(holds_text(said, "again in 1 s"), "a longer pause", seconds=20)


def test_a_step_that_fails_ends_it_all(supervisor: Supervisor) -> None:
    with supervisor, pytest.raises(GaveUp, match=r"step failed \(exit code 4\)"):
        supervisor.run(python("step", "raise SystemExit(4)"), seconds=20)


def test_what_never_becomes_ready_is_given_up(supervisor: Supervisor) -> None:
    with supervisor, pytest.raises(GaveUp, match="the moon was not ready"):
        supervisor.wait_until(lambda: False, "the moon", seconds=0.2)


def test_a_quiet_one_is_heard_when_it_ends(supervisor: Supervisor, said: io.StringIO) -> None:
    with supervisor:
        supervisor.start(python("server", "print('why'); raise SystemExit(1)", quiet=True))
        supervisor.wait_until(holds_text(said, "why"), "last words", seconds=20)


def test_it_is_known_what_a_child_said_first(supervisor: Supervisor) -> None:
    with supervisor:
        supervisor.start(python("server", f"print('ready to serve'); {SLEEPER}"))
        supervisor.wait_until(lambda: supervisor.has_said("server", "ready"), "server", seconds=20)
        assert not supervisor.has_said("server", "to serve")


def test_stages_are_stopped_from_the_top(supervisor: Supervisor, said: io.StringIO) -> None:
    code = """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("stopping")))
        print("up")
        signal.pause()
    """
    with supervisor:
        for stage, name in enumerate(["ground", "house", "roof"]):
            supervisor.start(python(name, code, stage=stage))
        supervisor.wait_until(lambda: said.getvalue().count("up") == 3, "all", seconds=20)
    order = [line.split()[0] for line in said.getvalue().splitlines() if "stopping" in line]
    assert order == ["roof", "house", "ground"]


def test_what_ignores_the_request_is_killed(supervisor: Supervisor, said: io.StringIO) -> None:
    code = f"import signal; signal.signal(15, signal.SIG_IGN); print('up'); {SLEEPER}"
    with supervisor:
        supervisor.start(python("stubborn", code, stop_seconds=0.1))
        supervisor.wait_until(holds_text(said, "up"), "it", seconds=20)
    assert "stubborn does not stop: killing it" in said.getvalue()


def test_what_a_child_left_behind_is_ended_with_it(
    supervisor: Supervisor, said: io.StringIO
) -> None:
    code = f"""
        import subprocess, sys
        print("left", subprocess.Popen([sys.executable, "-c", {SLEEPER!r}]).pid)
        {SLEEPER}
    """
    with supervisor:
        supervisor.start(python("parent", code))
        supervisor.wait_until(holds_text(said, "left"), "the grandchild", seconds=20)
        grandchild = int(said.getvalue().split("left")[1].split()[0])
    assert is_gone(grandchild)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_it_to_stop(supervisor: Supervisor, number: signal.Signals) -> None:
    with supervisor:
        timer = threading.Timer(0.05, os.kill, [os.getpid(), number])
        timer.start()
        with pytest.raises(Stopped):
            supervisor.forever()
        timer.join()


def test_nothing_outlives_a_supervisor_that_is_killed() -> None:
    program = """
        import sys
        from deploy.demo.console import Console
        from deploy.demo.supervisor import Child, Supervisor
        with Supervisor(Console()) as supervisor:
            for name in "ab":
                supervisor.start(Child(name, [sys.executable, "-u", "-c",
                    "import os, signal; print('pid', os.getpid()); signal.pause()"]))
            supervisor.forever()
    """
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    children = [int(process.stdout.readline().split("pid")[1]) for _ in "ab"]
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert all(is_gone(child) for child in children)


def is_gone(pid: int, seconds: float = 10) -> bool:
    """The process has ended, or does so soon: the kernel's word takes a moment to arrive."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
