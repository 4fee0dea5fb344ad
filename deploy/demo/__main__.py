"""`make demo`, `make demo-reset`, and `make manage ARGS=…` beside a running demonstration."""

import argparse
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from deploy.demo.console import Console
from deploy.demo.demonstration import Demonstration
from deploy.demo.place import FOLDER, ROOT, InUse, Place
from deploy.demo.supervisor import GaveUp, Stopped, Supervisor
from deploy.xenlab.plan import LabPlan, plan


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is kept")
    parser.add_argument(
        "--xen", type=Path, help="run on real Xen: the folder of hosts that `make xen-lab` started"
    )
    parser.add_argument("--xen-name", default="lab", help="which of the labs in that folder")
    parser.add_argument("action", choices=["up", "reset", "manage"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    place, console = Place(given.folder.resolve()), Console()
    if given.action == "manage":
        return manage(place, console, given.rest)
    try:
        with place.locked():
            if given.action == "reset":
                return reset(place, console)
            xen = plan(given.xen.resolve(), name=given.xen_name) if given.xen is not None else None
            return up(place, console, xen)
    except InUse as holder:
        console.complain(
            f"a demonstration runs here already (process {holder}): stop it with Ctrl-C first"
        )
        return 1


def up(place: Place, console: Console, xen: LabPlan | None = None) -> int:
    """Everything, until someone stops it, on the hosts of the lab `xen` if it is given.

    0 after a stop that was asked for.
    """
    # The Makefile gives the moment it was called, so that the figures cover the installation too.
    began = float(os.environ.get("DEMO_BEGAN") or time.time())
    try:
        with place.sockets() as sockets, Supervisor(console) as supervisor:
            demonstration = Demonstration(place, supervisor, sockets, xen)
            address = demonstration.raise_page()
            console.note(f"the page is up after {time.time() - began:.1f} s: {address}")
            demonstration.furnish()
            console.plain(demonstration.welcome(time.time() - began))
            supervisor.forever()
    except Stopped:
        console.note("stopped, nothing is left running; `make demo` comes back with the same data")
        return 0
    except GaveUp as reason:
        console.complain(f"the demonstration gave up: {reason}")
        return 1


def reset(place: Place, console: Console) -> int:
    """Forget the demonstration's data and logins."""
    shutil.rmtree(place.folder)
    console.note(f"forgot {place.folder}")
    return 0


def manage(place: Place, console: Console, arguments: list[str]) -> int:
    """Django's command line with the environment of the running demonstration."""
    try:
        kept = place.path("environment").read_text(encoding="utf-8")
    except FileNotFoundError:
        console.complain("there is no demonstration here: start one with `make demo`")
        return 1
    environment = dict(word.split("=", 1) for word in shlex.split(kept))
    os.environ.update(environment)
    os.execv(sys.executable, [sys.executable, str(ROOT / "manage.py"), *arguments])


if __name__ == "__main__":
    sys.exit(main())
