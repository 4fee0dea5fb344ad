"""One session per pool: made once, repaired once, and never trusting a stranger."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from worker.hypervisor.port import Busy, Candidate, PoolConnection, Refused, Unreachable
from worker.hypervisor.xapi import session as session_module
from worker.hypervisor.xapi.session import MemorySessionStore, PoolSession, StoredSession
from worker.tests.hypervisor.conftest import MakeHost
from worker.tests.hypervisor.servers import Drop, Fault, ScriptedHost, identity

LOGIN = "session.login_with_password"
MakeSession = Callable[..., PoolSession]


@pytest.fixture
def make_session() -> Iterator[MakeSession]:
    with ExitStack() as stack:

        def make(*hosts: ScriptedHost, **options: Any) -> PoolSession:
            seconds = options.pop("seconds", 5.0)
            connection = PoolConnection(
                "test",
                hosts[0].url,
                "root",
                "secret",
                tuple(Candidate(host.address, host.certificate) for host in hosts),
                timedelta(seconds=seconds),
            )
            session = PoolSession(connection, **options)
            stack.callback(session.close)
            return session

        yield make


def fails(*fault: str, times: int = 1_000_000) -> Callable[..., str]:
    left = [times]

    def answer(*_: object) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise Fault(*fault)
        return "done"

    return answer


def drops(*_: object) -> None:
    raise Drop


def is_slave_of(host: ScriptedHost, master: ScriptedHost) -> None:
    host.answers[LOGIN] = fails("HOST_IS_SLAVE", master.address)


# ------------------------------------------------------------------------------------------ logging in


def test_nothing_is_sent_before_the_first_call(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    make_session(host)
    assert host.connections == 0


def test_threads_share_one_login(host: ScriptedHost, make_session: MakeSession) -> None:
    host.answers["VM.get_all"] = lambda *_: []
    session = make_session(host)
    threads = [threading.Thread(target=session.read, args=("VM.get_all",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (host.count(LOGIN), host.count("VM.get_all")) == (1, 8)


def test_the_originator_is_one_constant_per_pool(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    make_session(host).connect()
    assert host.asked[0] == (LOGIN, ("root", "secret", "2.21", "bulkhead/test"))


def test_a_session_of_another_process_is_used(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    store = MemorySessionStore()
    store.save(StoredSession(host.address, "OpaqueRef:theirs"))
    host.answers["VM.get_all"] = lambda session: [session]
    assert make_session(host, store=store).read("VM.get_all") == ["OpaqueRef:theirs"]
    assert host.count(LOGIN) == 0


def test_a_wrong_password_is_not_tried_everywhere(
    make_host: MakeHost, make_session: MakeSession
) -> None:
    first, second = make_host("h1"), make_host("h2")
    first.answers[LOGIN] = fails("SESSION_AUTHENTICATION_FAILED", "root", "no")
    with pytest.raises(Unreachable) as error:
        make_session(first, second).connect()
    assert error.value.reason == "credentials"
    assert second.asked == []


def test_closing_logs_out(host: ScriptedHost, make_session: MakeSession) -> None:
    session = make_session(host)
    session.connect()
    session.close()
    assert host.count("session.logout") == 1


# --------------------------------------------------------------------------------------- a lost session


def test_a_lost_session_is_replaced_and_the_call_repeated(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    host.answers["VM.start"] = fails("SESSION_INVALID", "x", times=1)
    session = make_session(host)
    assert session.call("VM.start") == "done"
    assert (host.count(LOGIN), session.sessions_lost, session.epoch) == (2, 1, 2)


def test_a_session_that_is_lost_again_is_given_up(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    host.answers["VM.start"] = fails("SESSION_INVALID", "x")
    with pytest.raises(Unreachable) as error:
        make_session(host).call("VM.start")
    assert (error.value.reason, error.value.may_have_happened) == ("session_lost", False)
    assert host.count("VM.start") == 2


def test_threads_that_lose_a_session_together_log_in_once(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    references = iter(["OpaqueRef:old", "OpaqueRef:new"])
    host.answers[LOGIN] = lambda *_: next(references)
    both = threading.Barrier(2)

    def answer(session: str) -> str:
        if session == "OpaqueRef:old":
            both.wait(5)
            raise Fault("SESSION_INVALID", session)
        return session

    host.answers["VM.start"] = answer
    session = make_session(host)
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(session.call("VM.start"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["OpaqueRef:new"] * 2


# ----------------------------------------------------------------------------------- finding the master


def test_a_slave_is_left_for_the_master_it_names(
    make_host: MakeHost, make_session: MakeSession
) -> None:
    slave, master = make_host("h1"), make_host("h2")
    is_slave_of(slave, master)
    master.answers["VM.start"] = lambda *_: "done"
    assert make_session(slave, master).call("VM.start") == "done"


def test_a_master_that_became_a_slave_is_left_and_the_call_repeated(
    make_host: MakeHost, make_session: MakeSession
) -> None:
    old, new = make_host("h1"), make_host("h2")
    old.answers["VM.start"] = fails("HOST_IS_SLAVE", new.address)
    new.answers["VM.start"] = lambda *_: "done"
    session = make_session(old, new)
    assert session.call("VM.start") == "done"
    assert session.master().address == new.address


def test_a_stranger_is_never_followed(make_host: MakeHost, make_session: MakeSession) -> None:
    slave, stranger = make_host("h1"), make_host("stranger")
    is_slave_of(slave, stranger)
    with pytest.raises(Unreachable) as error:
        make_session(slave).connect()
    assert error.value.reason == "not_master"
    assert stranger.connections == 0


def test_a_dead_master_is_replaced_by_whoever_lets_us_in(
    make_host: MakeHost, make_session: MakeSession
) -> None:
    old, slave, new = make_host("h1"), make_host("h2"), make_host("h3")
    session = make_session(old, slave, new)
    session.connect()
    old.stop()
    is_slave_of(slave, new)
    new.answers["VM.get_all"] = lambda *_: ["here"]
    assert session.read("VM.get_all") == ["here"]
    assert session.epoch == 2


def test_when_nobody_answers_that_is_said(make_host: MakeHost, make_session: MakeSession) -> None:
    hosts = [make_host("h1"), make_host("h2")]
    for host in hosts:
        host.stop()
    with pytest.raises(Unreachable) as error:
        make_session(*hosts).call("VM.start")
    assert (error.value.reason, error.value.may_have_happened) == ("no_answer", False)


def test_a_second_master_is_logged_out_of(make_host: MakeHost, make_session: MakeSession) -> None:
    dead, *masters = make_host("h1"), make_host("h2"), make_host("h3")
    session = make_session(dead, *masters)
    dead.stop()
    session.connect()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and sum(m.count("session.logout") for m in masters) < 1:
        time.sleep(0.01)  # the late probe ends in a thread of its own
    assert sum(m.count(LOGIN) - m.count("session.logout") for m in masters) == 1


def test_a_wrong_certificate_anywhere_is_said(host: ScriptedHost) -> None:
    candidate = Candidate(host.address, identity("someone else")[0])
    session = PoolSession(PoolConnection("test", host.url, "root", "secret", (candidate,)))
    with pytest.raises(Unreachable) as error:
        session.connect()
    assert error.value.reason == "certificate"
    assert host.asked == []


def test_a_slow_call_does_not_cost_the_session(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    release = threading.Event()
    host.answers["VM.start"] = lambda *_: release.wait(10)
    host.answers["VM.get_all"] = lambda *_: []
    session = make_session(host, seconds=0.3)
    with pytest.raises(Unreachable) as error:
        session.call("VM.start")
    release.set()
    assert (error.value.reason, error.value.may_have_happened) == ("timeout", True)
    session.read("VM.get_all")
    assert host.count(LOGIN) == 1


# ------------------------------------------------------------------------------------------ sending once


def test_a_lost_reply_is_not_sent_again(host: ScriptedHost, make_session: MakeSession) -> None:
    host.answers["VM.start"] = drops
    with pytest.raises(Unreachable) as error:
        make_session(host).call("VM.start")
    assert error.value.may_have_happened
    assert host.count("VM.start") == 1


def test_a_lost_answer_to_a_question_is_asked_for_again(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    lost = iter([True, False])

    def answer(*_: object) -> list[str]:
        if next(lost):
            raise Drop
        return ["v"]

    host.answers["VM.get_all"] = answer
    assert make_session(host).read("VM.get_all") == ["v"]


def test_a_refusal_arrives_translated(host: ScriptedHost, make_session: MakeSession) -> None:
    host.answers["VM.start"] = fails("OPERATION_NOT_ALLOWED", "OpaqueRef:secret-name")
    with pytest.raises(Refused) as error:
        make_session(host).call("VM.start")
    assert "OpaqueRef" not in str(error.value)


def test_more_calls_than_slots_wait_and_then_are_busy(
    host: ScriptedHost, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "CALLS_IN_FLIGHT", 1)
    entered, release = threading.Event(), threading.Event()

    def hang(*_: object) -> str:
        entered.set()
        release.wait(10)
        return ""

    host.answers["VM.start"] = hang
    session = make_session(host, seconds=0.5)
    session.connect()
    thread = threading.Thread(target=lambda: session.call("VM.start", timeout=5.0))
    thread.start()
    entered.wait(5)
    with pytest.raises(Busy):
        session.call("VM.start")
    release.set()
    thread.join()


# --------------------------------------------------------------------------------------- the candidates

H1 = "11111111-0000-0000-0000-000000000001"
H2 = "11111111-0000-0000-0000-000000000002"


def hosts_of_pool(*hosts: tuple[str, str]) -> Callable[..., Any]:
    records = {f"OpaqueRef:{u[-1]}": {"uuid": u, "address": address} for u, address in hosts}
    return lambda *_: records


def test_the_list_is_replaced_by_the_pools_own(
    make_host: MakeHost, make_session: MakeSession
) -> None:
    master, ejected = make_host("h1"), make_host("h2")
    master.answers["host.get_all_records"] = hosts_of_pool((H1, "127.0.0.1"), (H2, "10.9.9.9"))
    master.answers["host.get_server_certificate"] = lambda *_: "PEM of the new host"
    stored: list[tuple[Candidate, ...]] = []
    session = make_session(master, candidates_changed=stored.append)
    session.connect()
    assert {(str(c.host), c.address, c.certificate) for c in stored[-1]} == {
        (H1, master.address, master.certificate),
        (H2, "10.9.9.9", "PEM of the new host"),
    }
    assert ejected.address not in {c.address for c in session.candidates.all()}


def test_a_host_whose_certificate_cannot_be_read_is_left_out(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    host.answers["host.get_all_records"] = hosts_of_pool((H1, "127.0.0.1"), (H2, "10.9.9.9"))
    host.answers["host.get_server_certificate"] = fails("CANNOT_CONTACT_HOST", "x")
    session = make_session(host)
    session.connect()
    assert [str(c.host) for c in session.candidates.all()] == [H1]


def test_hosts_that_do_not_answer_for_their_certificate_hold_up_no_other(
    host: ScriptedHost, make_session: MakeSession
) -> None:
    """None is answered before all are asked."""
    new = [(f"33333333-0000-0000-0000-00000000000{n}", f"10.9.9.{n}") for n in (5, 6, 7)]
    host.answers["host.get_all_records"] = hosts_of_pool((H1, "127.0.0.1"), *new)
    together = threading.Barrier(len(new))

    def answer(*_: object) -> str:
        together.wait(3)
        return "PEM"

    host.answers["host.get_server_certificate"] = answer
    session = make_session(host)
    session.connect()
    assert {str(c.host) for c in session.candidates.all()} == {H1, *(uuid for uuid, _ in new)}


def test_a_pool_without_a_known_certificate_is_not_contacted() -> None:
    with pytest.raises(ValueError, match="certificate"):
        PoolSession(PoolConnection("test", "https://127.0.0.1", "root", "secret"))


def test_secrets_do_not_show_in_representations() -> None:
    connection = PoolConnection("test", "https://127.0.0.1", "root", "s3cret")
    assert "s3cret" not in repr(connection)
    assert "OpaqueRef" not in repr(StoredSession("127.0.0.1", "OpaqueRef:x"))
