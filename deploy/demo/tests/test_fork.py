"""Children that are copies of the supervisor. Each test has a program of its own: copies are made of a
process with a single thread, which a test run is not.
"""

import subprocess
import sys
import textwrap

from deploy.demo.place import ROOT

_FRAME = """
import os, signal, sys
from deploy.demo.console import Console
from deploy.demo import supervisor as supervision
from deploy.demo.supervisor import Child, GaveUp, Supervisor
supervision._FIRST_PAUSE = 0.0
with Supervisor(Console()) as supervisor:
"""


def said_by(body: str) -> str:
    """What the supervisor prints while it does `body`."""
    program = _FRAME + textwrap.indent(textwrap.dedent(body), "    ")
    done = subprocess.run(
        [sys.executable, "-u", "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_a_function_is_run_and_what_it_says_is_shown() -> None:
    said = said_by("""
        def work():
            print("hello", os.environ["WORD"], os.getcwd())
            print("oh", file=sys.stderr)
        supervisor.run(Child("worker", run=work, environment={"WORD": "you"}), seconds=20)
        print("environment is ours", "WORD" not in os.environ)
    """)
    assert "    worker │ hello you /\n" in said
    assert "    worker │ oh\n" in said
    assert "environment is ours True" in said


def test_its_end_is_known_as_a_programs_is() -> None:
    said = said_by("""
        def fails(): raise ValueError("no luck")
        def refuses(): sys.exit("not today")
        def counts(): sys.exit(3)
        for work in (fails, refuses, counts):
            try:
                supervisor.run(Child("worker", run=work), seconds=20)
            except GaveUp as reason:
                print(reason)
    """)
    assert "    worker │ ValueError: no luck" in said
    assert "    worker │ not today" in said
    assert said.count("worker failed (exit code 1)") == 2
    assert "worker failed (exit code 3)" in said


def test_it_is_started_again_and_says_who_it_is() -> None:
    said = said_by("""
        def work(): signal.pause()
        supervisor.start(Child("worker", run=work, announced=True))
        first = supervisor.number_of("worker")
        os.kill(first, signal.SIGKILL)
        supervisor.wait_until(lambda: supervisor.number_of("worker") not in (None, first), "it", seconds=20)
        print("again", supervisor.number_of("worker") != first)
    """)
    assert "worker ended (killed by SIGKILL); starting it again" in said
    assert said.count("    worker │ process ") == 2
    assert "again True" in said


def test_it_has_no_file_and_no_handler_of_its_parents() -> None:
    said = said_by("""
        import socket
        from pathlib import Path
        kept = socket.socket()
        lost = socket.socket()
        def work():
            open_files = {int(name.name) for name in Path("/proc/self/fd").iterdir()}
            print("kept", kept.fileno() in open_files, "lost", lost.fileno() in open_files)
            print("at most", len(open_files) <= 5)
            print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, os.getpgid(0) == os.getpid())
            print("name", Path("/proc/self/comm").read_text())
        supervisor.run(Child("worker", run=work, inherits=(kept.fileno(),)), seconds=20)
    """)
    assert "kept True lost False" in said
    assert "at most True" in said
    assert "True True" in said
    assert "name worker" in said


def test_what_does_not_wait_runs_beside_what_does() -> None:
    said = said_by("""
        finish = supervisor.begin(Child("slow", run=lambda: print("slow")))
        supervisor.run(Child("quick", run=lambda: print("quick")), seconds=20)
        finish(20)
        print("both")
    """)
    assert "      slow │ slow" in said
    assert "     quick │ quick" in said
    assert said.endswith("both\n")
