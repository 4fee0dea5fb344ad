"""Bulkhead as it is run: web, workers, clock and follower as processes of their own, on real servers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from deploy.local.leash import leash
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.service import serving

POOL, TENANT = "bench", "bench"
PAGE = 200
"""Operations in one answer: as many as the API gives."""
_CELERY = ("-m", "celery", "--app", "hosting", "--quiet")
_QUIET = ("--loglevel", "WARNING")


@dataclass(frozen=True)
class Wish:
    """What is asked for at every POST, and by whom."""

    token: str
    image: str
    memory: int
    scratch: int


@dataclass
class Processes:
    """Ours, each leading a group of its own. They may be made to stand still."""

    environment: Mapping[str, str]
    log: Path
    postmaster: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as output:
            self.running.append(
                subprocess.Popen(
                    [sys.executable, "-u", *arguments],
                    cwd=ROOT,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    preexec_fn=leash(),
                )
            )

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """None of them uses the machine or asks the pool anything inside the block."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in self.running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, number)

    def assert_alive(self) -> None:
        for process in self.running:
            if process.poll() is not None:
                said = self.log.read_text(errors="replace")[-4000:]
                raise RuntimeError(f"{process.args!r} ended ({process.returncode}):\n{said}")

    def cpu_seconds(self) -> dict[str, float]:
        """By what each does, with its children that live; PostgreSQL with those that ended too."""
        ours = {_role(leader.args): _cpu_of_group(leader.pid) for leader in self.running}
        pid = self.postmaster
        ended = sum(at.children for at in _processes() if at.pid == pid)
        own = sum(at.own for at in _processes() if pid in (at.pid, at.parent))
        return {**ours, "postgres": own + ended}


def _role(arguments: Any) -> str:
    words = [str(word) for word in arguments]
    for role in ("uvicorn", "follow", "beat", "tenant", "recovery"):
        if role in words:
            return role
    return words[2]


@dataclass(frozen=True, slots=True)
class _At:
    """A process as /proc tells of it; seconds of CPU, its own and of its children that ended."""

    pid: int
    parent: int
    group: int
    own: float
    children: float


def _processes() -> Iterator[_At]:
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        user, system, ended_user, ended_system = (int(word) / tick for word in fields[11:15])
        own, children = user + system, ended_user + ended_system
        yield _At(int(stat.parent.name), int(fields[1]), int(fields[2]), own, children)


def _cpu_of_group(group: int) -> float:
    return sum(at.own for at in _processes() if at.group == group)


@contextmanager
def servers(folder: Path) -> Iterator[Mapping[str, str]]:
    """PostgreSQL, durable, and Redis; what our processes are told."""
    folder.chmod(0o711)  # run by root, PostgreSQL is nobody and must pass through
    with ExitStack() as stack:
        environment = {
            "ENVIRONMENT": "development",
            "SECRET_KEY": "a key for a benchmark, which signs nothing of worth",
            "DJANGO_SETTINGS_MODULE": "hosting.settings",
            "NO_COLOR": "1",
            "LOG_LEVEL": "WARNING",
            "API_REQUESTS_PER_MINUTE": "1000000",
            # Whoever runs it as root has been told enough by PostgreSQL's note.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
        }
        for service in (Postgres(folder / "postgres", folder / "pg"), Redis(folder / "redis")):
            stack.enter_context(serving(service, folder / f"{service.name}.log"))
            environment |= service.environment()
            if isinstance(service, Postgres):
                service.ensure_database()
        yield environment


def migrate() -> None:
    """In this process, which acts for an operator from here on."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)


def assert_durable() -> dict[str, str]:
    """What PostgreSQL says of itself; raises when an acknowledged write could be lost."""
    from django.db import connection

    told = {}
    with connection.cursor() as cursor:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            cursor.execute(f"SHOW {name}")
            (told[name],) = cursor.fetchone() or ("?",)
    if set(told.values()) != {"on"}:
        raise RuntimeError(f"PostgreSQL is not durable: {told}")
    return told


def furnish(url: str, password: str, golden: str, *, memory: int, scratch: int) -> Wish:
    """The pool enrolled, an image that is on it already, a tenant with room and a token."""
    from django.utils import timezone

    from hosting.catalog.choices import DiskState
    from hosting.catalog.models import GoldenDisk, Image, ImageVersion
    from hosting.fleet.models import Pool
    from tenants.choices import DIMENSIONS, Scope
    from tenants.models import User
    from tenants.services import create_tenant, create_token
    from worker.enrolment import enrol, see_certificate

    enrol(
        name=POOL,
        url=url,
        username="root",
        password=password,
        certificate=see_certificate(url),
    )
    pool = Pool.objects.get(name=POOL)
    assert pool.default_sr_uuid is not None
    digest = f"sha256:{1:064x}"
    image = Image.objects.create(name="bench", reference="registry.example/bench:1")
    image.current = ImageVersion.objects.create(
        image=image, digest=digest, config={"cmd": ["/bin/serve"], "env": ["PATH=/bin"]}
    )
    image.save(update_fields=["current"])
    GoldenDisk.objects.create(
        digest=digest,
        builder_version="1",
        pool=pool,
        sr_uuid=pool.default_sr_uuid,
        state=DiskState.READY,
        vdi_uuid=golden,
    )
    owner = User.objects.create(username="bench")
    much = {name: 2**50 if name.endswith("_bytes") else 2**30 for name in DIMENSIONS}
    tenant = create_tenant(slug=TENANT, name="Bench", owner=owner, limits=much)
    _, secret = create_token(
        tenant=tenant,
        user=owner,
        name="bench",
        scopes=(Scope.VIEW, Scope.OPERATE),
        expires_at=timezone.now() + timedelta(days=1),
    )
    return Wish(secret, str(image.pk), memory, scratch)


@contextmanager
def control_plane(environment: Mapping[str, str], folder: Path, workers: int) -> Iterator[Plane]:
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    processes = Processes(environment, folder / "bulkhead.log", postmaster)
    port = _free_port()
    # Not on an inherited socket: uvicorn does not see that it is TCP, and lets Nagle hold answers back.
    web = ("-m", "uvicorn", "hosting.asgi:application", "--port", str(port))
    try:
        processes.start(*web, "--no-access-log", "--log-level", "warning")
        processes.start("manage.py", "follow", POOL)
        processes.start(*_worker("tenant", workers))
        processes.start(*_worker("recovery", 1))
        schedule = ("--schedule", str(folder / "beat"), "--pidfile=")
        processes.start(*_CELERY, "beat", *_QUIET, *schedule)
        _await_listener(processes, port)
        yield Plane(processes, port)
    finally:
        processes.stop()


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


def _await_listener(processes: Processes, port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        processes.assert_alive()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"the web process did not listen for {seconds:.0f} s")


def _worker(queue: str, concurrency: int) -> Sequence[str]:
    return (
        *(*_CELERY, "worker", *_QUIET, "--queues", queue, "--concurrency", str(concurrency)),
        *("--hostname", f"{queue}@bench", "--without-gossip", "--without-mingle"),
    )


@dataclass
class Plane:
    processes: Processes
    port: int

    def client(self, wish: Wish) -> Client:
        return Client(self.port, wish)


class Client:
    """A tenant's program: one kept connection to the REST API."""

    def __init__(self, port: int, wish: Wish) -> None:
        self._wish = wish
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def create(self, name: str) -> str:
        """Ask for a container; the operation that was accepted."""
        body = {
            "name": name,
            "image": self._wish.image,
            "memory_bytes": self._wish.memory,
            "disk_bytes": self._wish.scratch,
        }
        return str(self._ask("POST", "/containers", 202, body)["uuid"])

    def await_successes(self, uuids: Collection[str], seconds: float = 120) -> None:
        """Every one of them, of which there may be a page full.

        Raises RuntimeError when one ends otherwise, TimeoutError when one does not end.
        """
        deadline = time.monotonic() + seconds
        while under_way := self._under_way(set(uuids)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ended after {seconds:.0f} s: {under_way}")
            # Newest first: who waits for the newest mostly waits for all.
            self._ask("GET", f"/operations/{under_way[0]}?wait=10", 200)

    def _under_way(self, uuids: set[str]) -> list[str]:
        page = self._ask("GET", f"/operations?limit={PAGE}", 200)["results"]
        found = [one for one in page if one["uuid"] in uuids]
        if len(found) != len(uuids):
            raise RuntimeError(f"{len(uuids)} operations do not fit into a page of {PAGE}")
        for one in found:
            if one["state"] not in ("active", "queued", "succeeded"):
                raise RuntimeError(f"the operation ended otherwise: {one}")
        return [one["uuid"] for one in found if one["ended_at"] is None]

    def _ask(
        self, method: str, path: str, wanted: int, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {self._wish.token}",
            "Content-Type": "application/json",
        }
        self._connection.request(
            method,
            f"/api/v1/tenants/{TENANT}{path}",
            json.dumps(body) if body is not None else None,
            headers,
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != wanted:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        found: dict[str, Any] = json.loads(text)
        return found
