"""`make demo`, `make demo-reset`, and `make manage ARGS=…` beside a running demonstration."""

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.demo import processes
from deploy.demo.console import Console
from deploy.demo.place import ROOT, InUse, Place
from deploy.demo.supervisor import GaveUp, Stopped, Supervisor
from deploy.demo.web import answers
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis

OPERATOR = "operator"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("action", choices=["up", "reset", "manage"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    place, console = Place(), Console()
    if given.action == "manage":
        return manage(place, console, given.rest)
    try:
        with place.locked():
            return reset(place, console) if given.action == "reset" else up(place, console)
    except InUse as holder:
        console.complain(
            f"a demonstration runs here already (process {holder}): stop it with Ctrl-C first"
        )
        return 1


def up(place: Place, console: Console) -> int:
    """Everything, until someone stops it. 0 after a stop that was asked for."""
    # The Makefile gives the moment it was called, so that the figure covers the installation too.
    began = float(os.environ.get("DEMO_BEGAN") or time.time())
    try:
        with place.sockets() as sockets, Supervisor(console) as supervisor:
            environment, address = _raise_page(place, supervisor, sockets)
            console.plain(_welcome(place, address, time.time() - began, environment))
            # Not needed to look around, and each takes a second or two of a core to start.
            for child in processes.workers(environment):
                supervisor.start(child)
            supervisor.forever()
    except Stopped:
        console.note("stopped, nothing is left running; `make demo` comes back with the same data")
        return 0
    except GaveUp as reason:
        console.complain(f"the demonstration gave up: {reason}")
        return 1


def _raise_page(place: Place, supervisor: Supervisor, sockets: Path) -> tuple[dict[str, str], str]:
    """Start things in the order in which they need each other, until the page is live; what our
    processes are told, and the page's address.
    """
    listener = place.listener("web", processes.WEB_ADDRESS, 8000)
    ports = place.ports(
        {
            "lab": (processes.LAB_COORDINATOR, 18443),
            "control": (processes.WEB_ADDRESS, 18080),
            "bmc": (processes.LAB_COORDINATOR, 18623),
        }
    )
    environment = _our_environment(place, colors=supervisor.console.colors)
    if "XAPI_URL" not in os.environ:
        environment |= _start_lab(place, supervisor, ports)
    postgres = Postgres(place.path("postgres"), sockets / "postgres")
    if "DATABASE_URL" not in os.environ:
        postgres.prepare()
        supervisor.start(processes.server(postgres))
        environment |= postgres.environment()
    redis = Redis(sockets / "redis")
    if "REDIS_URL" not in os.environ:
        redis.prepare()
        supervisor.start(processes.server(redis))
        environment |= redis.environment()
    _keep(place, environment)
    supervisor.start(processes.web(environment, listener.fileno()))
    if "DATABASE_URL" not in os.environ:
        supervisor.wait_until(postgres.is_ready, "PostgreSQL", seconds=60)
        postgres.ensure_database()
    if "REDIS_URL" not in os.environ:
        supervisor.wait_until(redis.is_ready, "Redis", seconds=30)
    supervisor.run(processes.setup(environment), seconds=120)
    supervisor.start(processes.follower(environment, environment["DEMO_POOL"]))
    address = f"http://{processes.WEB_ADDRESS}:{listener.getsockname()[1]}"
    supervisor.wait_until(lambda: answers(f"{address}/console/"), "the page", seconds=60)
    listener.detach()  # stays open while we live: each start of web takes it up
    return environment, address


def _our_environment(place: Place, *, colors: bool) -> dict[str, str]:
    """What our own processes are told, over what the caller's environment says."""
    place.secret("operator-password")
    return {
        "ENVIRONMENT": "development",
        "SECRET_KEY": place.secret("secret-key", 64),
        "DJANGO_SETTINGS_MODULE": "hosting.settings",
        "DEMO_OPERATOR": OPERATOR,
        "DEMO_OPERATOR_PASSWORD_FILE": str(place.path("operator-password")),
        "DEMO_POOL": os.environ.get("XAPI_POOL_NAME", processes.LAB_POOL),
        **({} if colors else {"NO_COLOR": "1"}),
    }


def _start_lab(place: Place, supervisor: Supervisor, ports: dict[str, int]) -> dict[str, str]:
    place.secret("lab-password")
    supervisor.start(
        processes.lab(
            port=ports["lab"],
            control_port=ports["control"],
            bmc_port=ports["bmc"],
            state=str(place.path("lab.state")),
            info=str(place.path("lab.json")),
            password_file=str(place.path("lab-password")),
        )
    )
    return {
        "XAPI_URL": f"https://{processes.LAB_COORDINATOR}:{ports['lab']}",
        "LAB_CONTROL": f"http://{processes.WEB_ADDRESS}:{ports['control']}",
        "XAPI_USERNAME": "root",
        "XAPI_PASSWORD_FILE": str(place.path("lab-password")),
    }


def _keep(place: Place, environment: dict[str, str]) -> None:
    """For `make manage` in another terminal."""
    file = place.path("environment")
    file.touch(mode=0o600)
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items())]
    file.write_text("".join(lines), encoding="utf-8")


def _welcome(place: Place, address: str, seconds: float, environment: Mapping[str, str]) -> str:
    password = place.secret("operator-password")
    return f"""
    Bulkhead is ready in {seconds:.1f} s

      operator's console   {address}/console/
      login                {OPERATOR} / {password}
{_lab(place, environment)}
      kept in              {place.folder} (`make demo-reset` forgets it)

    Ctrl-C stops everything.
"""


def _lab(place: Place, environment: Mapping[str, str]) -> str:
    """How to reach the lab's pool, and what to try with it; nothing about a pool that is not ours."""
    if "LAB_CONTROL" not in environment:
        return ""
    control = environment["LAB_CONTROL"]
    json = "-H 'Content-Type: application/json'"
    return f"""
      its pool's XAPI      {environment["XAPI_URL"]}, root / {place.secret("lab-password")}
      try                  curl {json} -d '{{"state": "off"}}' {control}/hosts/h3/power
                           cuts the power of host h3 ("on" brings it back). XAPI notices after ten
                           minutes, or at once when its clock is moved:
                           curl {json} -d '{{"advance": 700}}' {control}/clock
"""


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
