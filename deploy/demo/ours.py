"""Bulkhead's own processes, as functions: each is run by a copy of one process that has loaded them all.

Loading Django and Celery takes two seconds of a core, and a demonstration has seven processes.
"""

import gc
import os
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module

from deploy.xenlab.plan import LabPlan

# uvicorn's and Celery's own words are for when something is wrong.
_QUIET = "WARNING"


# What is loaded when it is first needed, and would be in each process of its own.
_LOADED = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "deploy.demo.furnish",
    "hosting.asgi",
    "hosting.urls",
    "kombu.transport.redis",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "worker.tasks",
)
_COMMANDS = ("migrate", "enrol_pool", "set_network", "follow", "relay")


def load(environment: Mapping[str, str]) -> None:
    """Load everything that the processes need, with what `environment` tells over what is told already.

    Nothing is connected to, and no thread is started: copies of this process are made afterwards.
    """
    os.environ.update(environment)
    import django

    django.setup()
    for name in _LOADED:
        import_module(name)
    from django.core.management import get_commands, load_command_class

    for name in _COMMANDS:
        load_command_class(get_commands()[name], name)
    gc.freeze()  # what is there is for good: no copy's collector touches, and thereby copies, its pages


def web(listener: int) -> None:
    """On the listening socket of that number; who comes before it serves, waits.

    Given as a socket: of a bare number uvicorn makes a Unix socket, for which asyncio leaves Nagle's delay on
    (40 ms an answer).
    """
    import uvicorn

    config = uvicorn.Config(
        "hosting.asgi:application",
        access_log=False,
        log_level=_QUIET.lower(),
        timeout_graceful_shutdown=2,  # seconds: live pages hold their answer open, and would hold the stop
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listener)])


def command(*words: str) -> None:
    """One of Django's."""
    from django.core.management import CommandError, call_command

    try:
        call_command(*words)
    except CommandError as refusal:
        sys.exit(str(refusal))


def worker(queue: str, concurrency: int) -> None:
    # Whoever runs a demonstration as root has been told enough by PostgreSQL's note.
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    _celery(
        *("worker", "--loglevel", _QUIET, "--queues", queue, "--concurrency", str(concurrency)),
        *("--hostname", f"{queue}@%h", "--without-gossip", "--without-mingle"),
    )


def beat(schedule: str) -> None:
    _celery("beat", "--loglevel", _QUIET, "--schedule", schedule, "--pidfile=")


def ways(xen: LabPlan) -> None:
    from deploy.demo.ways import keep_open

    keep_open(xen)


def _celery(*words: str) -> None:
    from hosting.celery import app

    arguments: Sequence[str] = ("--quiet", *words)
    app.start(argv=list(arguments))
