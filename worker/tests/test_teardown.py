"""What is left of a deleted container."""

from __future__ import annotations

from typing import Any

import pytest

from hosting.compute.output import Written, append_lines, last_lines
from hosting.operations.choices import State
from worker.tests.instance_cases import TeardownCase
from worker.tests.support import run_to_end

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("servers")]


def test_what_it_wrote_is_forgotten() -> None:
    case = TeardownCase()
    append_lines(case.instance.pk, [Written("a secret")])
    run_to_end(case.operation, case.hypervisor)
    assert last_lines(case.instance.pk) == []


def test_a_redis_that_is_away_keeps_nothing_from_being_deleted(settings: Any) -> None:
    case = TeardownCase()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert run_to_end(case.operation, case.hypervisor).state == State.SUCCEEDED
