from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator

import pytest
import XenAPI

from deploy.lab.lab import Lab
from deploy.lab.testing import RunningLab, running_lab


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(hosts=3, tls=False, rate=0.0) as running:
        yield running


_open: list[XenAPI.Session] = []


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    while _open:
        _open.pop()("close")()


def connect(lab: RunningLab, host: int = 0, *, local: bool = False) -> XenAPI.Session:
    session = XenAPI.Session(lab.urls[host])
    _open.append(session)
    if local:
        session.slave_local_login_with_password(lab.username, lab.password)
    else:
        session.login_with_password(lab.username, lab.password)
    return session


def lose_the_coordinator(lab: RunningLab) -> None:
    lab.do(lambda inside: inside.coordinator.power_off())
    lab.clock.advance(200)


def transition(lab: RunningLab, host: int) -> XenAPI.Session:
    connect(lab, host, local=True).xenapi.pool.emergency_transition_to_master()
    lab.clock.advance(30)
    return connect(lab, host)


def test_members_of_a_pool_without_coordinator_answer_that_they_are_still_booting(
    lab: RunningLab,
) -> None:
    lose_the_coordinator(lab)
    with pytest.raises(XenAPI.Failure) as raised:
        connect(lab, 1)
    assert raised.value.details == ["HOST_STILL_BOOTING"]
    assert connect(lab, 1, local=True).xenapi.host.is_in_emergency_mode() is True


def test_a_member_told_to_take_over_serves_the_pool_and_recovers_the_others(
    lab: RunningLab,
) -> None:
    lose_the_coordinator(lab)
    session = transition(lab, 1)
    recovered = session.xenapi.pool.recover_slaves()
    pool = session.xenapi.pool.get_all()[0]
    names = {session.xenapi.host.get_name_label(host) for host in recovered}
    assert session.xenapi.host.get_name_label(session.xenapi.pool.get_master(pool)) == "h2"
    assert names == {"h3"}
    with pytest.raises(XenAPI.Failure) as raised:
        connect(lab, 2)
    assert raised.value.details[0] == "HOST_IS_SLAVE"


def test_a_new_coordinator_does_not_know_what_was_made_after_its_copy(lab: RunningLab) -> None:
    session = connect(lab)
    session.xenapi.network.create({"name_label": "old", "other_config": {}})
    session.xenapi.pool.sync_database()
    session.xenapi.network.create({"name_label": "new", "other_config": {}})
    lose_the_coordinator(lab)
    after = transition(lab, 1)
    assert len(after.xenapi.network.get_by_name_label("old")) == 1
    assert after.xenapi.network.get_by_name_label("new") == []


def test_members_get_a_fresh_copy_every_five_minutes(lab: RunningLab) -> None:
    connect(lab).xenapi.network.create({"name_label": "kept", "other_config": {}})
    lab.clock.advance(400)
    lose_the_coordinator(lab)
    assert len(transition(lab, 1).xenapi.network.get_by_name_label("kept")) == 1


def test_no_session_of_the_old_coordinator_is_good_at_the_new_one(lab: RunningLab) -> None:
    old = connect(lab)._session
    lose_the_coordinator(lab)
    transition(lab, 1)
    with xmlrpc.client.ServerProxy(lab.urls[1]) as stranger:
        answer = stranger.pool.get_all(old)
    assert answer == {"Status": "Failure", "ErrorDescription": ["SESSION_INVALID", old]}


def emergencies(lab: RunningLab) -> set[str]:
    return lab.do(lambda inside: {m.name for m in inside.machines.values() if m.emergency})


def split(lab: RunningLab, host: str, **parts: bool) -> None:
    def change(inside: Lab) -> None:
        for name, value in parts.items():
            setattr(inside.machine(host), name, value)

    lab.do(change)


def test_a_coordinator_that_only_clients_cannot_reach_keeps_its_members(lab: RunningLab) -> None:
    split(lab, "h1", reachable=False)
    lab.clock.advance(300)
    assert emergencies(lab) == set()


def test_members_cut_off_from_their_coordinator_wait_in_emergency_until_it_is_back(
    lab: RunningLab,
) -> None:
    split(lab, "h1", isolated=True)
    lab.clock.advance(200)
    assert emergencies(lab) == {"h2", "h3"}
    assert connect(lab).xenapi.pool.get_all()
    split(lab, "h1", isolated=False)
    lab.clock.advance(60)
    assert emergencies(lab) == set()


def test_a_member_that_no_new_coordinator_told_is_silent_to_it(lab: RunningLab) -> None:
    lose_the_coordinator(lab)
    session = transition(lab, 1)
    lab.clock.advance(700)
    metrics = session.xenapi.host.get_metrics(session.xenapi.host.get_by_name_label("h3")[0])
    assert not session.xenapi.host_metrics.get_live(metrics)
    session.xenapi.pool.recover_slaves()
    lab.clock.advance(60)
    assert session.xenapi.host_metrics.get_live(metrics)
