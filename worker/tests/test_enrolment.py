"""Enrolling the lab's pool, by the command, as an operator does."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from deploy.lab.certificates import make_certificate, server_context
from deploy.lab.testing import RunningLab, running_lab
from hosting.fleet.choices import PoolState
from hosting.fleet.models import Host, Pool, StorageRepository, VirtualMachine
from hosting.fleet.tests.makers import make_pool
from worker.connections import Connections, candidates_from, connection_of
from worker.enrolment import EnrolmentRefused
from worker.enrolment import enrol as enrol_pool
from worker.follower import Follower, PoolForgotten
from worker.hypervisor import xapi
from worker.hypervisor.port import HostCertificate, Refused, Unreachable, UntranslatedFailure

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(3, rate=50.0) as lab:
        yield lab


@pytest.fixture
def enrol(lab: RunningLab, tmp_path: Path) -> Any:
    """The command with everything right, but for what a test gives."""

    def run(**given: Any) -> str:
        file = tmp_path / "password"
        file.write_text(given.pop("password", lab.password) + "\n")
        said = StringIO()
        options: dict[str, Any] = {
            "name": "lab",
            "url": lab.url,
            "username": lab.username,
            "password_file": str(file),
        }
        if "fingerprint" not in given:
            options["trust_first_use"] = True
        call_command("enrol_pool", stdout=said, **{**options, **given})
        return said.getvalue()

    return run


def test_a_pool_is_enrolled_with_all_that_it_holds(lab: RunningLab, enrol: Any) -> None:
    said = enrol()
    pool = Pool.objects.get()
    assert f"enrolled pool lab {pool.pk}: 3 hosts, its objects are known" in said
    assert (pool.state, pool.password) == (PoolState.CONNECTED, lab.password)
    assert {one.certificate for one in candidates_from(pool.candidates)} == set(lab.certificates)
    hosts = Host.objects.present()
    assert {one.host for one in candidates_from(pool.candidates)} == {host.pk for host in hosts}
    assert pool.master in hosts
    assert pool.version
    assert all(host.live and host.memory_capacity_bytes > 0 for host in hosts)
    assert VirtualMachine.objects.filter(is_control_domain=True).count() == 3
    assert StorageRepository.objects.filter(pbds__currently_attached=True).exists()
    assert pool.follower_token is None


def test_what_is_stored_is_enough_to_reach_it(enrol: Any) -> None:
    enrol()
    hypervisor = xapi.connect(connection_of(Pool.objects.get()))
    assert len(hypervisor.hosts()) == 3
    hypervisor.close()


def test_enrolled_again_it_is_renewed(enrol: Any) -> None:
    enrol()
    Pool.objects.update(sealed_password="stale", candidates=[])
    assert "renewed pool other" in enrol(name="other")
    pool = Pool.objects.get()
    assert (pool.name, len(pool.candidates), Host.objects.count()) == ("other", 3, 3)


def test_a_running_follower_is_left_to_its_work(enrol: Any) -> None:
    enrol()
    pool = Pool.objects.get()
    connections = Connections(lambda pool: xapi.connect(connection_of(pool)))
    follower = Follower(pool.pk, lambda now: connections.of(now).watcher())
    follower.turn()
    assert "its follower runs already" in enrol()
    follower.stop.set()
    follower.run()


def test_the_fingerprint_may_be_written_as_people_write_it(lab: RunningLab, enrol: Any) -> None:
    shown = xapi.read_certificate(lab.url).fingerprint
    assert shown in enrol(fingerprint=shown)
    enrol(fingerprint=f"SHA256:{shown.replace(':', '').lower()}")
    assert Pool.objects.count() == 1


def test_another_certificate_is_refused_and_both_are_shown(lab: RunningLab, enrol: Any) -> None:
    shown = xapi.read_certificate(lab.url).fingerprint
    with pytest.raises(CommandError) as refused:
        enrol(fingerprint="AB:CD")
    assert "expected  AB:CD" in str(refused.value)
    assert f"shown     {shown}" in str(refused.value)
    assert not Pool.objects.exists()


def test_trust_has_to_be_chosen(enrol: Any) -> None:
    with pytest.raises(CommandError, match="required"):
        call_command("enrol_pool", name="x", url="https://x", password_file="-")


def test_a_wrong_password_is_said_plainly(enrol: Any) -> None:
    with pytest.raises(CommandError, match="user name or password is wrong") as refused:
        enrol(password="geheim")
    assert "geheim" not in str(refused.value)
    assert not Pool.objects.exists()


def test_a_slave_is_not_the_pool(lab: RunningLab, enrol: Any) -> None:
    slave = next(url for url in lab.urls if url != lab.url)
    with pytest.raises(CommandError, match="is not the pool's master: give the address of that"):
        enrol(url=slave)


def test_a_silent_address_is_said_plainly(enrol: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(CommandError, match="nobody answers at"):
            enrol(url=url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Refused("permission"), "may not enrol"),
        (UntranslatedFailure("NEW_CODE"), r"strange one: .*NEW_CODE"),
        (Unreachable("still_booting"), "try again in a minute"),
    ],
)
def test_what_a_pool_may_answer_is_said_plainly(answer: Exception, said: str) -> None:
    class Strange:
        closed = False

        def pool(self) -> None:
            raise answer

        def close(self) -> None:
            self.closed = True

    there: Any = Strange()
    with pytest.raises(EnrolmentRefused, match=said):
        enrol_pool(
            name="x",
            url="https://192.0.2.1",
            username="u",
            password="p",
            certificate=HostCertificate("PEM", "AB"),
            connect=lambda _connection: there,
        )
    assert there.closed


@pytest.mark.parametrize("url", ["http://127.0.0.1", "nonsense://x", "https://"])
def test_what_is_no_address_is_said_plainly(enrol: Any, url: str) -> None:
    with pytest.raises(CommandError, match="is no address of a pool"):
        enrol(url=url)


def test_a_server_that_is_no_pool_is_said_plainly(enrol: Any, stranger: str) -> None:
    with pytest.raises(CommandError, match="XAPI"):
        enrol(url=stranger)


def test_a_name_is_one_pools_alone(enrol: Any) -> None:
    make_pool(name="lab")
    with pytest.raises(CommandError, match="another pool is called 'lab'"):
        enrol()
    assert Pool.objects.count() == 1


def test_a_missing_password_file_is_said_plainly(enrol: Any) -> None:
    with pytest.raises(CommandError, match="cannot read the password"):
        enrol(password_file="/nowhere/at/all")


def test_the_password_may_come_by_a_pipe(
    lab: RunningLab, enrol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(f"{lab.password}\n"))
    enrol(password_file="-")
    assert Pool.objects.get().password == lab.password


def test_a_pool_that_falls_silent_halfway_is_said_plainly(
    enrol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_self: Follower) -> bool:
        raise Unreachable("timeout")

    monkeypatch.setattr(Follower, "once", silent)
    with pytest.raises(CommandError, match="stopped answering"):
        enrol()


# ------------------------------------------------------------------------------------------------ follow


def test_following_keeps_in_step_with_the_pool(lab: RunningLab, enrol: Any) -> None:
    enrol()
    pool = Pool.objects.get()
    hypervisor = xapi.connect(connection_of(pool))
    follower = Follower(pool.pk, lambda _pool: hypervisor.watcher())
    follower.turn()
    host = next(one for one in Host.objects.all() if one != pool.master)
    hypervisor.disable_host(host.pk)
    for _ in range(20):
        follower.turn()
        host.refresh_from_db()
        if not host.enabled:
            break
    assert not host.enabled
    hypervisor.enable_host(host.pk)
    follower.stop.set()
    follower.run()
    hypervisor.close()


def test_the_command_follows_by_name_or_uuid_until_it_is_stopped(
    enrol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol()
    pool = Pool.objects.get()
    seen: list[Any] = []

    def run(follower: Follower) -> None:
        follower.turn()
        seen.append(follower._pool)
        follower._leave()

    monkeypatch.setattr(Follower, "run", run)
    call_command("follow", "lab")
    call_command("follow", str(pool.pk))
    assert seen == [pool.pk, pool.pk]


def test_the_real_process_leads_and_leaves_cleanly_when_told(enrol: Any) -> None:
    enrol()
    here = connection.settings_dict
    address = make_conninfo(
        dbname=here["NAME"],
        user=here["USER"],
        password=here["PASSWORD"] or None,
        host=here["HOST"] or None,
        port=here["PORT"] or None,
    )
    process = subprocess.Popen(
        [sys.executable, "manage.py", "follow", "lab"],
        env={**os.environ, "DATABASE_URL": address},
        cwd=settings.ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "following" in line or "Error" in line)
        assert "following" in said
        assert Pool.objects.get().follower_token is not None
        process.terminate()
        assert process.wait(timeout=15) == 0
        assert Pool.objects.get().follower_token is None
    finally:
        process.kill()
        process.communicate(timeout=15)


@pytest.mark.parametrize("name", ["nobody", "00000000-0000-4000-8000-000000000000"])
def test_an_unknown_pool_is_said_plainly(enrol: Any, name: str) -> None:
    make_pool(name="known")
    with pytest.raises(CommandError, match=r"no pool .* is enrolled \(enrolled: known\)"):
        call_command("follow", name)


def test_a_pool_that_is_removed_ends_the_command(enrol: Any) -> None:
    make_pool(name="known")

    def run(_follower: Follower) -> None:
        raise PoolForgotten

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Follower, "run", run)
        with pytest.raises(CommandError, match="not enrolled any more"):
            call_command("follow", "known")


class Shop(http.server.BaseHTTPRequestHandler):
    """Sells other things."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Welcome to the shop</html>")

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """An https server that is no pool."""
    key, certificate = make_certificate("shop", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.socket = server_context(key, certificate).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
