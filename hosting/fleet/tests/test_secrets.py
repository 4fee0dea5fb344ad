"""Secrets at rest."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from hosting import keyring
from hosting.fleet.models import Host, Pool
from hosting.fleet.tests.makers import make_host, make_pool

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_what_is_sealed_can_be_opened_and_not_read() -> None:
    sealed = keyring.seal("geheim")
    assert "geheim" not in sealed
    assert keyring.unseal(sealed) == "geheim"
    assert keyring.seal("geheim") != sealed


def test_an_old_key_still_opens_and_the_new_one_seals(settings: Any) -> None:
    settings.KEY_RING = [OLD]
    sealed = keyring.seal("geheim")
    settings.KEY_RING = [NEW, OLD]
    assert keyring.unseal(sealed) == "geheim"
    renewed = keyring.reseal(sealed)
    settings.KEY_RING = [NEW]
    assert keyring.unseal(renewed) == "geheim"
    for act in (keyring.unseal, keyring.reseal):
        with pytest.raises(keyring.BrokenSeal):
            act(sealed)


@pytest.mark.django_db
def test_a_pools_password_is_sealed_in_the_database() -> None:
    pool = make_pool(sealed_password=keyring.seal("geheim"))
    stored = Pool.objects.values_list("sealed_password", flat=True).get()
    assert "geheim" not in stored
    assert pool.password == "geheim"


@pytest.mark.django_db
def test_a_host_without_a_bmc_has_no_password() -> None:
    assert make_host().bmc_password == ""
    assert make_host(sealed_bmc_password=keyring.seal("x")).bmc_password == "x"


@pytest.mark.django_db
def test_resealing_renews_every_secret(settings: Any) -> None:
    settings.KEY_RING = [OLD]
    pool = make_pool(sealed_password=keyring.seal("one"))
    host = make_host(pool, sealed_bmc_password=keyring.seal("two"))
    make_host(pool)
    settings.KEY_RING = [NEW, OLD]
    said = StringIO()
    call_command("reseal", stdout=said)
    settings.KEY_RING = [NEW]
    assert Pool.objects.get().password == "one"
    assert Host.objects.get(pk=host.pk).bmc_password == "two"
    assert "2 secrets" in said.getvalue()


@pytest.mark.django_db
def test_resealing_says_which_secret_it_cannot_open(settings: Any) -> None:
    settings.KEY_RING = [OLD]
    pool = make_pool(sealed_password=keyring.seal("one"))
    settings.KEY_RING = [NEW]
    with pytest.raises(CommandError, match=str(pool.pk)):
        call_command("reseal", stdout=StringIO())
