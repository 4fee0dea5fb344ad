"""An operator's browser, and everything that there is to be seen."""

import pytest
from django.test import Client

from frontend.console.tests.worlds import Fleet, make_fleet
from hosting.operations import bell
from tenants.models import User


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_user("olga", is_staff=True))
    return client


@pytest.fixture
def fleet(db: None) -> Fleet:
    return make_fleet()
