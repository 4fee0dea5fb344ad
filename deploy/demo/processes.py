"""What runs in a demonstration: the processes of docs/architecture.md, each once."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from deploy.demo.place import ROOT
from deploy.demo.supervisor import Child
from deploy.local.service import Service

LAB_POOL = "lab"
LAB_HOSTS = 4
LAB_COORDINATOR = "127.0.64.1"
WEB_ADDRESS = "127.0.0.1"
# Stages: what stands on something else is stopped before it.
_SERVERS, _LAB, _OURS = 0, 1, 2


def server(service: Service) -> Child:
    """PostgreSQL or Redis out of a wheel."""
    return Child(
        name=service.name,
        argv=service.argv(),
        account=service.account,
        stop_signal=service.stop_signal,
        death_signal=service.death_signal,
        stage=_SERVERS,
        quiet=True,
    )


def lab(
    *, port: int, control_port: int, bmc_port: int, state: str, info: str, password_file: str
) -> Child:
    """The pool of simulated hosts; prints a line that starts with "ready" when it serves."""
    return Child(
        name="lab",
        argv=[
            *(sys.executable, "-u", "-m", "deploy.lab", "--hosts", str(LAB_HOSTS)),
            *("--port", str(port), "--control-port", str(control_port)),
            # The same at each start: controllers that were set for hosts have to stay good.
            *("--bmc-port", str(bmc_port)),
            *("--state", state, "--info", info, "--password-file", password_file),
            "--sample-guests",
        ],
        cwd=str(ROOT),
        stage=_LAB,
        quiet=True,
    )


def web(environment: Mapping[str, str], listener: int) -> Child:
    """The web process on the listening socket of that number; who comes before it serves, waits."""
    argv = [
        *("-m", "uvicorn", "hosting.asgi:application", "--fd", str(listener)),
        *("--no-access-log", "--log-level", "warning"),
        # Seconds: live pages hold their answer open, and would hold the stop.
        *("--timeout-graceful-shutdown", "2"),
    ]
    return replace(_ours("web", argv, environment), inherits=(listener,))


def follower(environment: Mapping[str, str], pool: str) -> Child:
    return _ours("follower", ["manage.py", "follow", pool], environment)


def workers(environment: Mapping[str, str]) -> list[Child]:
    """A worker per queue, and the clock."""
    return [
        _worker("tenant", environment, concurrency=2),
        _worker("recovery", environment, concurrency=1),
        _worker("images", environment, concurrency=1),
        _ours(
            "beat",
            [*_CELERY, "beat", *_QUIET, "--schedule", ".demo/beat", "--pidfile="],
            environment,
        ),
    ]


def setup(environment: Mapping[str, str]) -> Child:
    """Migrations, the operator's login, the pool's enrolment; ends by itself."""
    return _ours("setup", ["-m", "deploy.demo.setup"], environment)


_CELERY = ["-m", "celery", "--app", "hosting", "--quiet", "--workdir", str(ROOT)]
_QUIET = ["--loglevel", "WARNING"]
# Whoever runs a demonstration as root has been told enough by PostgreSQL's note.
_AS_ROOT = "ignore:You're running the worker with superuser privileges"


def _worker(queue: str, environment: Mapping[str, str], *, concurrency: int) -> Child:
    argv = [
        *(*_CELERY, "worker", *_QUIET, "--queues", queue, "--concurrency", str(concurrency)),
        *("--hostname", f"{queue}@%h", "--without-gossip", "--without-mingle"),
    ]
    return _ours(queue, argv, {**environment, "PYTHONWARNINGS": _AS_ROOT})


def _ours(name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
    return Child(
        name=name,
        argv=[sys.executable, "-u", *argv],
        environment=environment,
        cwd=str(ROOT),
        stage=_OURS,
    )
