"""Every fault of XAPI.md 8.4, asked for over the control API and met by a real client."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest
from XenAPI import XenAPI

from deploy.lab.samples import MIB
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.storing import Disks, disks_of
from deploy.lab.tests.test_control import ask
from deploy.lab.tests.vms import error_of


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(3, tls=False, sides=True, rate=50.0, guest_boot_seconds=0.0) as running:
        yield running


@pytest.fixture
def client(lab: RunningLab) -> Iterator[Disks]:
    with disks_of(lab) as disks:
        yield disks


def control(lab: RunningLab, path: str, **body: Any) -> Any:
    status, answer = ask(lab.control_url + path, body)
    assert status == 200, answer
    return answer


def say_once(lab: RunningLab, method: str, *arguments: Any) -> Any:
    """One request over a connection of its own, never sent again."""
    body = xmlrpc.client.dumps(arguments, method).encode()
    request = urllib.request.Request(lab.urls[0], body, {"Content-Type": "text/xml"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return xmlrpc.client.loads(answer.read())[0][0]


def networks(client: Disks) -> int:
    return len(client.api.network.get_by_name_label("asked for"))


def create_network(client: Disks) -> Any:
    record = {"name_label": "asked for", "name_description": "", "other_config": {}}
    return say_once(client.lab, "network.create", client.session.handle, record)


def violations(lab: RunningLab) -> set[str]:
    return {violation["kind"] for violation in ask(f"{lab.control_url}/violations")[1]}


# --- connections and answers


@pytest.mark.parametrize(("action", "made"), [("drop_before", 0), ("drop_after", 1)])
def test_a_connection_is_dropped_before_or_after_the_call_is_carried_out(
    client: Disks, action: str, made: int
) -> None:
    control(client.lab, "/faults", method="network.create", action=action)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        create_network(client)
    assert networks(client) == made


def test_an_upload_meets_a_dropped_connection_too(client: Disks) -> None:
    vdi = client.create(client.shared_storage())
    control(client.lab, "/faults", method="PUT /import_raw_vdi", action="drop_before")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.put(b"x" * MIB, vdi=vdi)
    assert client.upload(vdi, b"x" * MIB)["status"] == "success"


def test_an_answer_is_slow(client: Disks) -> None:
    control(client.lab, "/faults", method="pool.get_all", action="delay", seconds=60)
    before = client.lab.clock.now()
    client.api.pool.get_all()
    assert client.lab.clock.now() - before >= 60


def test_an_upload_is_sent_to_another_host(client: Disks) -> None:
    vdi = client.create(client.shared_storage())
    control(client.lab, "/imports/redirect", times=1)
    answer = client.put(b"", vdi=vdi)
    other = [url for url in client.lab.urls[1:] if answer.headers["Location"].startswith(url)]
    assert answer.status == 302
    assert len(other) == 1
    assert client.upload(vdi, b"x" * MIB)["status"] == "success"


def test_too_many_tasks_are_pending(client: Disks) -> None:
    error = ["TOO_MANY_PENDING_TASKS"]
    control(client.lab, "/faults", method="Async.VM.*", action="error", error=error, times=2)
    vm = client.vm()
    assert error_of(client.api.Async.VM.start, vm, False, False) == error
    assert client.api.VM.start(vm, False, False) == ""


# --- the toolstack


def test_a_restarted_toolstack_forgets_sessions_and_tasks_and_no_guest(client: Disks) -> None:
    vm = client.started("h1")
    client.api.task.create("kept by nobody", "")
    old, domid = client.session.handle, client.api.VM.get_domid(vm)
    control(client.lab, "/hosts/h1/toolstack", state="restart")
    client.lab.clock.advance(60)
    client.session("close")()
    assert say_once(client.lab, "pool.get_all", old)["ErrorDescription"] == ["SESSION_INVALID", old]
    client.session.login_with_password(client.lab.username, client.lab.password)
    assert client.api.task.get_by_name_label("kept by nobody") == []
    assert (client.state(vm), client.api.VM.get_domid(vm)) == ("Running", domid)


def test_a_crashed_toolstack_leaves_guests_running_and_writing(client: Disks) -> None:
    vm = client.vm()
    client.vbd(vm, client.create(client.shared_storage()))
    client.api.VM.start_on(vm, client.hosts["h3"], False, False)
    control(client.lab, "/hosts/h3/toolstack", state="down")
    client.lab.clock.advance(700)
    client.api.host.declare_dead(client.hosts["h3"])
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    assert violations(client.lab) == {"vm_runs_twice", "disk_written_twice"}


def test_every_session_is_forgotten(client: Disks) -> None:
    old = client.session.handle
    control(client.lab, "/sessions/forget")
    assert say_once(client.lab, "pool.get_all", old)["ErrorDescription"] == ["SESSION_INVALID", old]


# --- hosts


def test_a_host_without_power_loses_its_guests_and_keeps_its_locks_and_looks_alive(
    client: Disks,
) -> None:
    vm, vdi = client.vm(), client.create(client.shared_storage())
    client.vbd(vm, vdi)
    client.api.VM.start_on(vm, client.hosts["h3"], False, False)
    control(client.lab, "/clock", rate=0)
    control(client.lab, "/hosts/h3/power", state="off")
    metrics = client.api.host.get_metrics(client.hosts["h3"])
    control(client.lab, "/clock", advance=560)
    assert client.api.host_metrics.get_live(metrics)
    control(client.lab, "/clock", advance=100)
    assert not client.api.host_metrics.get_live(metrics)
    assert client.state(vm) == "Running"
    assert client.api.VDI.get_sm_config(vdi) == {f"host_{client.hosts['h3']}": "RW"}
    overview = ask(client.lab.control_url)[1]
    assert [host["domains"] for host in overview["hosts"] if host["name"] == "h3"] == [0]


def test_a_lost_coordinator_is_followed_by_one_with_an_older_database(client: Disks) -> None:
    client.lab.clock.advance(400)
    control(client.lab, "/clock", rate=0)
    create_network(client)
    vm = client.vm()
    uuid = client.api.VM.get_uuid(vm)
    control(client.lab, "/hosts/h1/power", state="off")
    control(client.lab, "/clock", advance=200)
    member = XenAPI.Session(client.lab.urls[1])
    with contextlib.closing(_Closing(member)):
        member.slave_local_login_with_password(client.lab.username, client.lab.password)
        member.xenapi.pool.emergency_transition_to_master()
        control(client.lab, "/clock", advance=30)
        member.login_with_password(client.lab.username, client.lab.password)
        assert member.xenapi.network.get_by_name_label("asked for") == []
        assert error_of(member.xenapi.VM.get_by_uuid, uuid) == ["UUID_INVALID", "VM", uuid]


class _Closing:
    def __init__(self, session: XenAPI.Session) -> None:
        self.session = session

    def close(self) -> None:
        self.session("close")()


def test_a_host_that_only_its_pool_cannot_reach_falls_silent_and_still_answers(
    client: Disks,
) -> None:
    vm = client.started("h3")
    control(client.lab, "/hosts/h3/network", isolated=True)
    client.lab.clock.advance(700)
    metrics = client.api.host.get_metrics(client.hosts["h3"])
    assert not client.api.host_metrics.get_live(metrics)
    stranger = XenAPI.Session(client.lab.urls[2])
    with contextlib.closing(_Closing(stranger)):
        login = (client.lab.username, client.lab.password)
        assert error_of(stranger.login_with_password, *login)[0] == "HOST_IS_SLAVE"
    client.api.VM.power_state_reset(vm)
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    assert violations(client.lab) == {"vm_runs_twice"}


def test_a_host_that_only_clients_cannot_reach_stays_a_member(client: Disks) -> None:
    control(client.lab, "/hosts/h3/network", reachable=False)
    client.lab.clock.advance(700)
    assert client.api.host_metrics.get_live(client.api.host.get_metrics(client.hosts["h3"]))
    with pytest.raises(OSError):
        urllib.request.urlopen(client.lab.urls[2], timeout=5)


def test_the_pool_takes_all_vms_of_a_host_for_halted_while_they_run(client: Disks) -> None:
    vm = client.started("h3")
    uuid = client.api.VM.get_uuid(vm)
    assert control(client.lab, "/hosts/h3/reset") == {"vms": [uuid]}
    assert client.state(vm) == "Halted"
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    assert violations(client.lab) == {"vm_runs_twice"}


def test_the_clock_of_a_host_is_wrong(client: Disks) -> None:
    control(client.lab, "/hosts/h2/clock", skew=-3600)
    right = client.api.host.get_servertime(client.hosts["h1"])
    wrong = client.api.host.get_servertime(client.hosts["h2"])
    assert str(wrong) < str(right)


# --- storage


def test_an_upload_fails_after_its_200(client: Disks) -> None:
    vdi = client.create(client.shared_storage())
    control(client.lab, "/imports/fail", times=1)
    assert client.upload(vdi, b"x" * MIB)["status"] == "failure"
    assert client.upload(vdi, b"x" * MIB)["status"] == "success"


def test_a_storage_repository_is_full_midway(client: Disks) -> None:
    nfs = client.shared_storage()
    vdi = client.create(nfs, size=64 * MIB)
    control(client.lab, f"/storage/{client.api.SR.get_uuid(nfs)}", free=8 * MIB)
    record = client.upload(vdi, b"x" * (32 * MIB))
    assert record["status"] == "failure"
    assert record["error_info"][0] in ("VDI_IO_ERROR", "SR_BACKEND_FAILURE_44")


def test_the_lock_of_a_storage_repository_is_held_for_a_minute(client: Disks) -> None:
    nfs = client.shared_storage()
    control(client.lab, f"/storage/{client.api.SR.get_uuid(nfs)}", lock=60)
    before = client.lab.clock.now()
    client.create(nfs)
    assert client.lab.clock.now() - before >= 55


# --- events


def test_deletions_are_forgotten_and_only_the_counts_tell(client: Disks) -> None:
    record = {"name_label": "gone", "name_description": "", "other_config": {}}
    network = client.api.network.create(record)
    token = _events(client, "", 0.0)["token"]
    client.api.network.destroy(network)
    control(client.lab, "/events/overflow")
    news = _events(client, token, 0.1)
    assert [e for e in news["events"] if e["ref"] == network] == []
    assert news["valid_ref_counts"]["network"] == len(client.api.network.get_all())


def _events(client: Disks, token: str, timeout: float) -> Any:
    return getattr(client.api.event, "from")(["network"], token, timeout)


# --- trust and rights


def test_a_role_may_not_do_what_it_may_not(client: Disks) -> None:
    account = {"name": "clerk", "role": "read-only", "password": "secret"}
    control(client.lab, "/accounts", **account)
    clerk = XenAPI.Session(client.lab.urls[0])
    with contextlib.closing(_Closing(clerk)):
        clerk.login_with_password("clerk", "secret")
        vm = client.vm()
        assert clerk.xenapi.VM.get_power_state(vm) == "Halted"
        denied = error_of(clerk.xenapi.VM.start, vm, False, False)
        assert denied[:2] == ["RBAC_PERMISSION_DENIED", "VM.start"]
        control(client.lab, "/accounts", name="clerk", role="vm-operator")
        assert clerk.xenapi.VM.start(vm, False, False) == ""
        assert error_of(clerk.xenapi.host.disable, client.hosts["h2"])[0] == denied[0]


def test_a_host_shows_another_certificate() -> None:
    with running_lab(1, sides=True) as lab:
        machine = lab.lab.coordinator
        address = (machine.address, machine.port)
        before = ssl.get_server_certificate(address)
        shown = control(lab, "/hosts/h1/certificate")["certificate"]
        assert ssl.get_server_certificate(address) == shown != before
