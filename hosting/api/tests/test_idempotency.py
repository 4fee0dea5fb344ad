"""A POST that comes twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from hosting.api.models import KEPT, Answer
from hosting.api.tests.conftest import Caller, World
from hosting.compute.models import Container
from hosting.operations.models import Operation
from tenants.models import ApiToken, Quota
from tenants.services import set_limits

KEY = {"Idempotency_Key": "one"}


def ask(world: World, caller: str = "member", name: str = "web", **headers: str) -> Any:
    body = {"name": name, "image": str(world.image.pk)}
    return world.callers[caller].post(world.address("tenant-containers"), body, **headers)


def test_the_same_request_is_carried_out_once_and_answered_the_same(world: World) -> None:
    first, second = ask(world, **KEY), ask(world, **KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert Container.objects.filter(name="web").count() == 1
    assert Quota.objects.get(tenant=world.tenant).containers_used == 2


def test_another_request_with_the_same_key_is_refused(world: World) -> None:
    ask(world, **KEY)
    refused = ask(world, name="other", **KEY)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_reused")
    stop = world.callers["member"].post(world.address("tenant-container-stop"), **KEY)
    assert stop.status_code == 409


def test_two_callers_keys_do_not_meet(world: World) -> None:
    ask(world, "member", **KEY)
    ask(world, "owner", name="second", **KEY)
    answer = ask(world, "operate token", name="third", **KEY)
    assert (answer.status_code, Answer.objects.count()) == (202, 3)


def test_a_refusal_is_judged_again(world: World) -> None:
    set_limits(world.tenant, {"containers": 1})
    refused = ask(world, **KEY)
    assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
    assert not Answer.objects.exists()
    set_limits(world.tenant, {"containers": 2})
    assert ask(world, **KEY).status_code == 202


def test_without_a_key_each_request_is_one(world: World) -> None:
    assert ask(world).status_code == 202
    assert ask(world).json()["code"] == "name_taken"


@pytest.mark.parametrize("key", ["x" * 256, "naïve"])
def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    assert ask(world, Idempotency_Key=key).status_code == 400


def test_after_a_day_the_key_is_free_and_old_answers_go(world: World) -> None:
    ask(world, **KEY)
    ask(world, "owner", name="second", Idempotency_Key="two")
    Answer.objects.update(created_at=Now() - KEPT)
    assert ask(world, name="third", **KEY).status_code == 202
    assert Answer.objects.get().key == "one"


def test_a_tokens_secret_is_not_kept_for_a_second_answer(world: World) -> None:
    body = {
        "name": "ci",
        "scopes": ["view"],
        "expires_at": (timezone.now() + timedelta(days=7)).isoformat(),
    }
    owner, path = world.callers["owner"], world.address("tenant-tokens")
    before = ApiToken.objects.count()
    first, second = owner.post(path, body, **KEY), owner.post(path, body, **KEY)
    assert first.json()["secret"].startswith("bh_")
    assert second.json() == {**first.json(), "secret": None}
    assert ApiToken.objects.count() == before + 1
    assert Caller(secret=first.json()["secret"]).get("/api/v1/me").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_does_it_and_both_are_answered(world: World) -> None:
    barrier = threading.Barrier(2)
    answers: list[Any] = []

    def run(client: Caller) -> None:
        barrier.wait(10)
        body = {"name": "web", "image": str(world.image.pk)}
        answers.append(client.post(world.address("tenant-containers"), body, **KEY))
        connection.close()

    client = world.callers["operate token"]
    threads = [threading.Thread(target=run, args=(client,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert Operation.objects.filter(kind="instance.provision").count() == 1
