"""Django's admin shows every model of the ledger and changes none."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from hosting.alarms.services import open_alarm, record_audit
from hosting.fleet.models import Host, Pool
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations.services import request

pytestmark = pytest.mark.django_db
MODELS = [
    model
    for label in ("fleet", "operations", "alarms")
    for model in apps.get_app_config(label).get_models()
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@pytest.fixture
def operator(client: Client) -> Client:
    user = get_user_model().objects.create(username="root", is_staff=True, is_superuser=True)
    client.force_login(user)
    host = make_host()
    make_vm(host.pool, resident_on=host)
    request("host.evacuate", host, requested_by="test")
    open_alarm("x:y", title="x")
    record_audit(actor="a", action="b", subject="c")
    return client


@every_model
def test_it_is_listed_and_searched(operator: Client, model: Any) -> None:
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert operator.get(address).status_code == 200
    assert operator.get(address, {"q": "x"}).status_code == 200


@every_model
def test_it_is_shown_and_not_changed(operator: Client, model: Any) -> None:
    row = model.objects.first()
    if row is None:
        row = model.objects.create(**_least(model))
    address = reverse(
        f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk]
    )
    assert operator.get(address).status_code == 200
    assert operator.post(address, {}).status_code == 403


def _least(model: Any) -> dict[str, Any]:
    names = {field.name for field in model._meta.fields}
    return {"pool": Pool.objects.get()} | ({"device": 0} if "device" in names else {})


@pytest.mark.parametrize("model", [Pool, Host])
def test_secrets_are_not_shown(operator: Client, model: Any) -> None:
    row = model.objects.get()
    secret = "gAAAA-sealed"
    column = "sealed_password" if model is Pool else "sealed_bmc_password"
    model.objects.update(**{column: secret})
    address = reverse(f"admin:fleet_{model._meta.model_name}_change", args=[row.pk])
    assert secret not in operator.get(address).content.decode()


def test_no_model_is_forgotten() -> None:
    assert all(site.is_registered(model) for model in MODELS)
