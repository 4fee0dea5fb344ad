"""The order in which a demonstration comes up.

What takes longest comes first and side by side: the lab and the registry start, PostgreSQL's cluster is made,
and meanwhile this process loads Bulkhead, of which all its processes are copies.
"""

import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from deploy.demo import ours, processes
from deploy.demo.place import Place
from deploy.demo.supervisor import Supervisor
from deploy.demo.web import answers
from deploy.demo.welcome import welcome
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.xenlab.plan import LabPlan

OPERATOR = "operator"


class Demonstration:
    """One that comes up, in a place, under a supervisor. What is not ours is left alone: servers and a
    pool that the environment names.
    """

    def __init__(
        self, place: Place, supervisor: Supervisor, sockets: Path, xen: LabPlan | None = None
    ) -> None:
        self._began = datetime.now(UTC)
        self._place = place
        self._supervisor = supervisor
        self._has_lab = "XAPI_URL" not in os.environ
        self._xen = xen
        self._listener = place.listener("web", processes.WEB_ADDRESS, 8000)
        self._ports = place.ports(
            {
                "lab": (processes.LAB_COORDINATOR, 18443),
                "control": (processes.WEB_ADDRESS, 18080),
                "bmc": (processes.LAB_COORDINATOR, 18623),
                "registry": (processes.WEB_ADDRESS, 18500),
            }
        )
        self._postgres = (
            None
            if "DATABASE_URL" in os.environ
            else Postgres(place.path("postgres"), sockets / "postgres")
        )
        self._redis = None if "REDIS_URL" in os.environ else Redis(sockets / "redis")
        self.address = f"http://{processes.WEB_ADDRESS}:{self._listener.getsockname()[1]}"
        self.environment = self._told()

    def raise_page(self) -> str:
        """All that runs, until the page is live; its address."""
        make_cluster = self._start_servers()
        ours.load(self.environment)
        self._await_servers(make_cluster)
        self._run("schema", self._prepare_schema)
        start = self._supervisor.start
        start(processes.web(self._listener.fileno()))
        for child in (
            *processes.workers(self._place.path("beat")),
            *processes.of_the_pool(self.environment["DEMO_POOL"]),
        ):
            start(child)
        if self._xen is not None:
            start(processes.ways(self._xen))
        page = f"{self.address}/console/"
        self._supervisor.wait_until(partial(answers, page), "the page", seconds=60)
        return self.address

    def furnish(self) -> None:
        """Tenants, images, containers; until these run. It has limits of its own for what it waits for."""
        self._run("furnish", self._furnish, seconds=300)

    def welcome(self, seconds: float) -> str:
        return welcome(
            self._place,
            seconds,
            address=self.address,
            operator=OPERATOR,
            environment=self.environment,
            worker=self._supervisor.number_of("tenant"),
        )

    # ----------------------------------------------------------------------------------------- in order

    def _start_servers(self) -> Callable[[float], None] | None:
        """Whatever needs nothing of ours; what is answered waits for PostgreSQL's cluster."""
        supervisor = self._supervisor
        finish = None
        if self._postgres is not None:
            finish = supervisor.begin(processes.preparation(self._postgres))
        if self._has_lab:
            supervisor.start(
                processes.lab(
                    port=self._ports["lab"],
                    control_port=self._ports["control"],
                    bmc_port=self._ports["bmc"],
                    state=str(self._place.path("lab.state")),
                    info=str(self._place.path("lab.json")),
                    password_file=str(self._place.path("lab-password")),
                    xen=self._xen,
                )
            )
        if self._redis is not None:
            self._redis.prepare()
            supervisor.start(processes.server(self._redis))
        supervisor.start(
            processes.registry(port=self._ports["registry"], real=self._xen is not None)
        )
        return finish

    def _await_servers(self, make_cluster: Callable[[float], None] | None) -> None:
        supervisor = self._supervisor
        if self._postgres is not None and make_cluster is not None:
            make_cluster(120)
            supervisor.start(processes.server(self._postgres))
            supervisor.wait_until(self._postgres.is_ready, "PostgreSQL", seconds=60)
            self._postgres.ensure_database()
        if self._redis is not None:
            supervisor.wait_until(self._redis.is_ready, "Redis", seconds=30)

    def _run(self, name: str, step: Callable[[], None], *, seconds: float = 120) -> None:
        self._supervisor.run(processes.step(name, step), seconds=seconds)

    # ------------------------------------------------------------- in copies of this process, once loaded

    def _prepare_schema(self) -> None:
        from deploy.demo.schema import prepare

        prepare({**os.environ}, OPERATOR, self._place.secret("operator-password"))

    def _furnish(self) -> None:
        from deploy.demo.furnish import PARTIES, furnish, parties_on_xen

        registry = f"{processes.WEB_ADDRESS}:{self._ports['registry']}"
        lab = self._place.path("lab.json") if self._has_lab else None
        parties = parties_on_xen() if self._xen is not None else PARTIES
        furnish(self._place, registry, lab, self._began, parties)

    # -------------------------------------------------------------------------------- what they are told

    def _told(self) -> dict[str, str]:
        """Our own processes' environment, over the caller's; kept for `make manage`."""
        place = self._place
        spool = place.path("spool")
        spool.mkdir(exist_ok=True)
        registry = f"{processes.WEB_ADDRESS}:{self._ports['registry']}"
        told = {
            "ENVIRONMENT": "development",
            "SECRET_KEY": place.secret("secret-key", 64),
            "DJANGO_SETTINGS_MODULE": "hosting.settings",
            "DEMO_POOL": os.environ.get("XAPI_POOL_NAME", processes.LAB_POOL),
            # Whoever tries it waits for it.
            "HOST_SILENCE_SECONDS": os.environ.get("HOST_SILENCE_SECONDS", "30"),
            "IMAGE_SPOOL": os.environ.get("IMAGE_SPOOL", str(spool)),
            "IMAGE_ALLOWED_NETWORKS": _with(
                "IMAGE_ALLOWED_NETWORKS", f"{processes.WEB_ADDRESS}/32"
            ),
            "IMAGE_PLAIN_HTTP_REGISTRIES": _with("IMAGE_PLAIN_HTTP_REGISTRIES", registry),
            **({} if self._supervisor.console.colors else {"NO_COLOR": "1"}),
        }
        if self._has_lab:
            place.secret("lab-password")
            told |= {
                "XAPI_URL": f"https://{processes.LAB_COORDINATOR}:{self._ports['lab']}",
                "LAB_CONTROL": f"http://{processes.WEB_ADDRESS}:{self._ports['control']}",
                "DEMO_NETWORK_DEVICE": (
                    processes.LAB_NETWORK_DEVICE if self._xen is None else processes.XEN_DEVICE
                ),
                "XAPI_USERNAME": "root",
                "XAPI_PASSWORD_FILE": str(place.path("lab-password")),
            }
        if self._xen is not None:
            told |= {"DEMO_KERNEL": processes.XEN_KERNEL, "DEMO_RAMDISK": processes.XEN_RAMDISK}
        for server in (self._postgres, self._redis):
            told |= server.environment() if server is not None else {}
        lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(told.items())]
        place.keep("environment", "\n".join(lines))
        return told


def _with(variable: str, value: str) -> str:
    """What the caller's environment lists there, and `value`."""
    return ",".join(filter(None, [os.environ.get(variable), value]))
