"""Django's admin shows every model, and lets nobody edit the ledger or the mirror by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.db import connection
from django.db.models import Model
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from hosting.alarms.services import open_alarm, record_audit
from hosting.api.models import Answer
from hosting.catalog.tests.makers import make_golden_disk
from hosting.compute.tests.makers import make_instance
from hosting.fleet.models import Host, Network, Pbd, Pool, StorageRepository, Vbd, Vdi, Vif
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations import bell
from hosting.operations.services import request
from tenants.choices import Role
from tenants.models import ApiToken, Membership, Tenant, User
from tenants.tests.makers import make_member, make_tenant, make_token

pytestmark = pytest.mark.django_db

APPS = ("fleet", "catalog", "compute", "operations", "alarms", "api", "tenants")
MODELS = [model for label in APPS for model in apps.get_app_config(label).get_models()]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)

# All that may be edited: what names people and tenants, and who belongs where.
EDITABLE = {
    "User": {
        "username",
        "password",
        "first_name",
        "last_name",
        "email",
        "is_active",
        "is_staff",
        "is_superuser",
        "groups",
        "user_permissions",
        "last_login",
        "date_joined",
    },
    "Tenant": {"name"},
    "Tenant, its memberships": {"user", "role"},
}


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


def make_rows(number: int) -> None:
    """One more of everything, each about things of its own."""
    host = make_host(name=f"xen-{number}")
    pool = host.pool
    vm = make_vm(pool, resident_on=host)
    sr = StorageRepository.objects.create(pool=pool, name="sr", type="nfs")
    network = Network.objects.create(pool=pool, name="net")
    vdi = Vdi.objects.create(pool=pool, name="vdi", sr=sr)
    Pbd.objects.create(pool=pool, host=host, sr=sr)
    Vbd.objects.create(pool=pool, vm=vm, vdi=vdi, device=0)
    Vif.objects.create(pool=pool, vm=vm, network=network, device=0, mac="", locking_mode="locked")
    instance = make_instance(host=host)
    make_golden_disk(instance.container.version, pool)
    make_token(instance.container.tenant.memberships.get())
    request("host.evacuate", host, requested_by="test")
    request("instance.stop", instance, requested_by="test")
    open_alarm(f"x:{number}", title="x")
    record_audit(actor="a", action="b", subject="c")
    Answer.objects.create(caller="a", key=str(number), fingerprint="x")


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    make_rows(0)
    return client


def address(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_no_model_is_forgotten() -> None:
    assert [model for model in MODELS if not site.is_registered(model)] == []


@every_model
def test_it_is_listed_searched_and_shown(operator: Client, model: Any) -> None:
    assert operator.get(address(model, "changelist")).status_code == 200
    assert operator.get(address(model, "changelist"), {"q": "x"}).status_code == 200
    row = model.objects.first()
    assert row is not None
    assert operator.get(address(model, "change", row.pk)).status_code == 200


@every_model
def test_a_longer_list_costs_no_more_queries(operator: Client, model: Any) -> None:
    costs, lengths = [], []
    for number in range(1, 5):
        with CaptureQueriesContext(connection) as queries:
            page = operator.get(address(model, "changelist"))
        costs.append(len(queries))
        lengths.append(page.context["cl"].result_count)
        make_rows(number)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    assert len(set(costs[1:])) == 1  # the first one warms caches


@every_model
def test_only_what_names_people_and_tenants_is_edited(operator: Client, model: Any) -> None:
    asked = RequestFactory().get("/")
    asked.user = User.objects.get(username="root")
    admin = site._registry[model]
    row = model.objects.first()
    editable: dict[str, set[str]] = {}
    if admin.has_change_permission(asked, row):
        editable[model.__name__] = set(admin.get_form(asked, row, change=True).base_fields)
    for inline in admin.get_inline_instances(asked, row):
        if inline.has_change_permission(asked, row):
            formset: Any = inline.get_formset(asked, row)
            editable[f"{model.__name__}, its {inline.verbose_name_plural}"] = set(
                formset.form.base_fields
            ) - {formset.fk.name}
    expected = {
        name: fields for name, fields in EDITABLE.items() if name.split(",")[0] == model.__name__
    }
    assert editable == expected
    if not expected:
        assert operator.post(address(model, "change", row.pk), {}).status_code == 403
    assert operator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", [model for model in MODELS if model is not User])
def test_nothing_is_added_but_people(operator: Client, model: Any) -> None:
    assert operator.get(address(model, "add")).status_code == 403


@pytest.mark.parametrize("model", [Pool, Host])
def test_secrets_are_not_shown(operator: Client, model: Any) -> None:
    secret = "gAAAA-sealed"
    column = "sealed_password" if model is Pool else "sealed_bmc_password"
    model.objects.update(**{column: secret})
    row = model.objects.get()
    assert secret not in operator.get(address(model, "change", row.pk)).content.decode()


def test_what_a_token_is_known_by_is_not_shown(operator: Client) -> None:
    token = ApiToken.objects.get()
    assert token.digest not in operator.get(address(ApiToken, "change", token.pk)).content.decode()


def test_tokens_are_revoked_for_good(operator: Client) -> None:
    token = ApiToken.objects.get()
    form = {"action": "revoke", "_selected_action": [str(token.pk)]}
    operator.post(address(ApiToken, "changelist"), form)
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert timezone.now() - token.revoked_at < timedelta(minutes=1)


def save_members(client: Client, tenant: Tenant, *rows: tuple[Membership, str, bool]) -> Any:
    """(membership, role, whether it is removed)"""
    form = {
        "name": tenant.name,
        "memberships-TOTAL_FORMS": str(len(rows)),
        "memberships-INITIAL_FORMS": str(len(rows)),
        "quota-TOTAL_FORMS": "0",
        "quota-INITIAL_FORMS": "0",
    }
    for number, (membership, role, is_removed) in enumerate(rows):
        prefix = f"memberships-{number}"
        form |= {
            f"{prefix}-id": str(membership.pk),
            f"{prefix}-tenant": str(tenant.pk),
            f"{prefix}-user": str(membership.user_id),
            f"{prefix}-role": role,
        }
        if is_removed:
            form[f"{prefix}-DELETE"] = "on"
    return client.post(address(Tenant, "change", tenant.pk), form)


def test_the_last_owner_stays_also_here(operator: Client) -> None:
    tenant = make_tenant()
    owner, member = tenant.memberships.get(), make_member(tenant)
    for change in (
        [(owner, Role.MEMBER, False), (member, Role.MEMBER, False)],
        [(owner, Role.OWNER, True), (member, Role.MEMBER, False)],
    ):
        response = save_members(operator, tenant, *change)
        assert "keeps at least one owner" in response.content.decode()
        assert tenant.memberships.filter(role=Role.OWNER).get() == owner
    response = save_members(
        operator, tenant, (owner, Role.MEMBER, False), (member, Role.OWNER, False)
    )
    assert response.status_code == 302
    assert tenant.memberships.filter(role=Role.OWNER).get() == member
