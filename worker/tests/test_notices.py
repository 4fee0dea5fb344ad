"""A tenant's open pages hear of each step about its things, and of each change of its VMs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from hosting import labels
from hosting.compute.tests.makers import make_instance
from hosting.fleet.choices import PoolState
from hosting.fleet.tests.makers import make_pool
from hosting.operations.models import Operation
from tenants import notices
from worker.follower import Follower
from worker.tests.case import Case
from worker.tests.instance_cases import StopCase
from worker.tests.support import run_to_end
from worker.tests.test_follower import Script
from worker.tests.test_mirror import told, vm_record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    heard: list[set[str]] = []
    monkeypatch.setattr(notices, "publish", lambda channels: heard.append(set(channels)))
    return heard


def test_each_committed_step_is_told_to_whose_container_it_is(said: list[set[str]]) -> None:
    case: Case = StopCase()
    said.clear()
    run_to_end(case.operation, case.hypervisor)
    assert len(said) >= Operation.objects.get().events.filter(what="step").count()
    instance = case.operation.instance
    assert instance is not None
    assert set.union(*said) == {notices.channel_of(instance.container.tenant_id)}


def test_a_batch_is_told_to_each_tenant_whose_vm_changed_and_to_no_other(
    said: list[set[str]],
) -> None:
    pool = make_pool(state=PoolState.CONNECTED)
    mine, too, quiet = make_instance(), make_instance(), make_instance()
    script = Script(
        [
            told(
                *(vm_record(marker={labels.INSTANCE: str(one.pk)}) for one in (mine, too)),
                vm_record(marker={labels.INSTANCE: str(uuid4())}),
                vm_record(),
                full=True,
            ),
            told(),
        ]
    )
    follower = Follower(pool.pk, script.watch, publish=lambda pool, kinds: None)
    follower.turn()
    assert said == [{notices.channel_of(one.container.tenant_id) for one in (mine, too)}]
    assert notices.channel_of(quiet.container.tenant_id) not in said[0]
    follower.turn()
    assert len(said) == 1


def test_a_page_that_cannot_be_told_keeps_nobody_from_their_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("no word comes out")

    monkeypatch.setattr(notices, "publish", broken)
    case: Case = StopCase()
    run_to_end(case.operation, case.hypervisor)
    case.assert_arrived()
