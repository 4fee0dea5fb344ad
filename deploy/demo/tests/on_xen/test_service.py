"""What a tenant's users notice: their service comes up, moves, and comes back after its host has died.

While each of these goes on every kind of process of ours is killed once, with no warning.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import redis

from deploy.demo.tests.on_xen.site import MIB, Poller, Site, kill_qemu
from deploy.demo.tests.visitor import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800)]

TENANT = "harbor"
PASSWORD = "for tests only"
POSTGRES = {"memory_bytes": 192 * MIB, "disk_bytes": 512 * MIB}
ASKS = 20
"""Seconds that a database has for an answer."""


@dataclass(frozen=True)
class Service:
    """A container that answers."""

    uuid: str
    ip: str


class Services:
    """One of each kind, of one tenant."""

    def __init__(self, site: Site) -> None:
        self.site = site
        with site.estate.every_process_killed():
            page = site.deploy(TENANT, "page", "nginx:latest")
            shell = site.deploy(TENANT, "shell", "probe:server")
            rows = site.deploy(
                TENANT, "rows", "postgres:latest", env={"POSTGRES_PASSWORD": PASSWORD}, **POSTGRES
            )
            self.page, self.shell, self.rows = (self._up(one) for one in (page, shell, rows))
        cargo = site.named(TENANT, "cargo")
        self.keys = Service(cargo["uuid"], cargo["ip"])

    def all(self) -> tuple[Service, ...]:
        return self.page, self.shell, self.rows, self.keys

    def _up(self, container: str) -> Service:
        return Service(container, self.site.until(TENANT, container, "running")["ip"])

    # ------------------------------------------------------------------------------------- what they hold

    def boot(self) -> tuple[str, float]:
        """The shell's boot id, and how many seconds it is up."""
        said = self.site.sh(
            self.shell.ip, "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f1 /proc/uptime"
        )
        return said[0], float(said[1])

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection]:
        with (
            self.site.on_their_networks(),
            psycopg.connect(
                host=self.rows.ip,
                user="postgres",
                password=PASSWORD,
                connect_timeout=ASKS,
                autocommit=True,
            ) as connection,
        ):
            yield connection

    def rows_answer(self) -> bool:
        try:
            with self.sql() as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def key(self, command: str, *words: str) -> str:
        with (
            self.site.on_their_networks(),
            redis.Redis(self.keys.ip, socket_timeout=ASKS, decode_responses=True) as client,
        ):
            return str(client.execute_command(command, *words))


@pytest.fixture(scope="module")
def services(xen_site: Site) -> Iterator[Services]:
    made = Services(xen_site)
    yield made
    xen_site.remove(TENANT, made.page.uuid, made.shell.uuid, made.rows.uuid)


def test_an_image_that_was_pushed_answers_from_outside(services: Services) -> None:
    services.site.answers(services.page.ip)
    assert b"<title>" in services.site.http(services.page.ip)


def test_a_drained_host_loses_nothing_that_its_users_would_notice(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    site, operator = services.site, services.site.estate.operator
    wait_until(services.rows_answer, "PostgreSQL answers", seconds=240)
    with services.sql() as connection:
        connection.execute("CREATE TABLE moved (told text)")
        connection.execute("INSERT INTO moved VALUES ('before')")
    services.key("SET", "moved", "before")
    boot, uptime = services.boot()
    host = site.host_of(services.shell.uuid)
    before = {one.uuid: site.vm_of(one.uuid) for one in services.all()}
    moving = [one for one in services.all() if before[one.uuid].host == host["name"]]
    with Poller(site, services.shell.ip) as poller, site.estate.every_process_killed():
        operator.post(f"hosts/{host['uuid']}/drain")
        wait_until(
            lambda: operator.get(f"hosts/{host['uuid']}")["state"] == "maintenance",
            "the host is empty",
            seconds=600,
        )
        poller.until_answered()
    with capsys.disabled():
        print(
            f"\ndrain: {poller.answered} answers, {poller.failed} failed, "
            f"longest gap {poller.longest_gap:.1f} s"
        )
    assert poller.answered
    after = {one.uuid: site.vm_of(one.uuid) for one in services.all()}
    assert {one.uuid: (before[one.uuid].uuid, before[one.uuid].started) for one in moving} == {
        one.uuid: (after[one.uuid].uuid, after[one.uuid].started) for one in moving
    }
    assert host["name"] not in {vm.host for vm in after.values()}
    assert site.machine_of(services.shell.uuid).host.name != _machine_name(host["name"])
    same_boot, later = services.boot()
    assert same_boot == boot
    assert later > uptime
    with services.sql() as connection:
        assert connection.execute("SELECT told FROM moved").fetchall() == [("before",)]
    assert services.key("GET", "moved") == "before"
    assert site.estate.pool.violations() == []
    operator.post(f"hosts/{host['uuid']}/return")
    _until_accepting(site, host["uuid"])


def test_what_ran_on_a_machine_that_died_comes_back_with_its_data(services: Services) -> None:
    site, operator = services.site, services.site.estate.operator
    wait_until(services.rows_answer, "PostgreSQL answers", seconds=240)
    host = site.host_of(services.rows.uuid)
    _bring_together(services, host["name"])
    site.sh(services.shell.ip, "echo kept >/srv/kept; sync")
    with services.sql() as connection:
        connection.execute("CREATE TABLE survived (told text)")
        connection.execute("INSERT INTO survived VALUES ('committed')")
    boot, _ = services.boot()
    with _watched(site) as twice, site.estate.every_process_killed():
        kill_qemu(site.machine_of(services.rows.uuid))
        wait_until(
            lambda: operator.get(f"hosts/{host['uuid']}")["state"] == "dead",
            "the host is declared dead",
            seconds=300,
        )
        for one in services.all():
            site.until(TENANT, one.uuid, "running", seconds=600)
    assert host["name"] not in {site.vm_of(one.uuid).host for one in services.all()}
    site.answers(services.page.ip)
    site.answers(services.shell.ip)
    assert site.sh(services.shell.ip, "cat /srv/kept")[0] == "kept"
    assert services.boot()[0] != boot
    wait_until(services.rows_answer, "PostgreSQL answers", seconds=240)
    with services.sql() as connection:
        assert connection.execute("SELECT told FROM survived").fetchall() == [("committed",)]
    assert twice == []
    assert site.estate.pool.violations() == []
    kinds = [event["kind"] for event in operator.all("operations?limit=200")]
    assert "host.recover" in kinds
    site.estate.pool.give_power(host["name"])
    operator.post(f"hosts/{host['uuid']}/repaired")
    operator.post(f"hosts/{host['uuid']}/return")
    _until_accepting(site, host["uuid"])


def _bring_together(services: Services, host: str) -> None:
    """Nothing to do where they are together already: after a drain they are."""
    there = {services.site.vm_of(one.uuid).host for one in (services.shell, services.rows)}
    assert there == {host}


def _machine_name(host: str) -> str:
    """XAPI's h1 is host1 of the emulated ones."""
    return f"host{host.removeprefix('h')}"


def _until_accepting(site: Site, host: str) -> None:
    wait_until(
        lambda: site.estate.operator.get(f"hosts/{host}")["state"] == "accepting",
        "the host is back",
        seconds=300,
    )


@contextmanager
def _watched(site: Site) -> Iterator[list[str]]:
    """Domains that ran in two hosts' Xen at one moment, as both dom0s say all the time."""
    twice: list[str] = []
    ends = threading.Event()

    def watch() -> None:
        while not ends.wait(0.5):
            running = [
                uuid
                for there in site.domains().values()
                for uuid, state in there.items()
                if state == "running"
            ]
            twice.extend(uuid for uuid in set(running) if running.count(uuid) > 1)

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield twice
    finally:
        ends.set()
        thread.join(60)
