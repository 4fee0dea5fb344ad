"""Telling Bulkhead of the lab's management controllers, by the command, as an operator does."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from deploy.lab.testing import RunningLab
from hosting.alarms.models import AuditEntry
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_pool
from worker.fencing.hosts import fence_of
from worker.fencing.port import FenceRefused, PowerState
from worker.hypervisor.xapi import read_certificate

pytestmark = pytest.mark.django_db

SetBmc = Callable[..., str]


@pytest.fixture
def set_bmc(bmc_lab: RunningLab, tmp_path: Path) -> SetBmc:
    """The command for h1's controller with everything right, but for what a test gives."""

    def run(host: str = "h1", **given: Any) -> str:
        file = tmp_path / "password"
        file.write_text(given.pop("password", bmc_lab.lab.config.bmc_password) + "\n")
        said = StringIO()
        options: dict[str, Any] = {
            "url": bmc_lab.bmc_url("h1"),
            "username": "admin",
            "password_file": str(file),
        }
        if "fingerprint" not in given:
            options["trust_first_use"] = True
        call_command("set_bmc", host, stdout=said, **{**options, **given})
        return said.getvalue()

    return run


def test_what_is_stored_is_enough_to_switch_the_host(set_bmc: SetBmc) -> None:
    host = make_host(name="h1")
    said = set_bmc()
    assert "which is on" in said
    host.refresh_from_db()
    assert host.bmc_url.endswith("/redfish/v1/Systems/1")
    assert fence_of(host).power_state() is PowerState.ON
    assert AuditEntry.objects.get().subject == f"host:{host.pk}"


def test_a_host_may_be_named_by_its_uuid(set_bmc: SetBmc) -> None:
    host = make_host(name="h1")
    make_host(name="h1")
    with pytest.raises(CommandError, match="several hosts"):
        set_bmc("h1")
    set_bmc(str(host.pk))
    assert Host.objects.exclude(bmc_url="").get() == host


def test_the_certificate_may_be_compared_first(bmc_lab: RunningLab, set_bmc: SetBmc) -> None:
    make_host(name="h1")
    shown = read_certificate(bmc_lab.bmc_url("h1")).fingerprint
    assert shown in set_bmc(fingerprint=shown.replace(":", "").lower())
    with pytest.raises(CommandError, match="somebody may be in between"):
        set_bmc(fingerprint="AB:CD")


WRONG: list[tuple[dict[str, str], str]] = [
    ({"host": "h9"}, "there is no host"),
    ({"password": "wrong"}, "credentials"),
    ({"url": "http://192.0.2.1"}, "is no address"),
    ({"url": "https://127.0.0.1:1"}, "nobody answers"),
    ({"password_file": "/nowhere"}, "cannot read the password"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_does_not_work_is_said_and_not_stored(
    set_bmc: SetBmc, given: dict[str, str], said: str
) -> None:
    make_host(name="h1")
    with pytest.raises(CommandError, match=said):
        set_bmc(**given)
    assert Host.objects.get().bmc_url == ""


def test_one_machines_switch_is_not_given_to_two_hosts(set_bmc: SetBmc) -> None:
    pool = make_pool()
    make_host(pool, name="h1")
    make_host(pool, name="h2")
    set_bmc("h1")
    with pytest.raises(CommandError, match="h1's already"):
        set_bmc("h2")


def test_a_running_host_has_no_switch_of_a_machine_that_is_off(
    bmc_lab: RunningLab, set_bmc: SetBmc
) -> None:
    make_host(name="h1", live=True)
    machine = bmc_lab.lab.machine("h2")
    bmc_lab.do(lambda _lab: machine.power_off())
    try:
        with pytest.raises(CommandError, match="another one's"):
            set_bmc("h1", url=bmc_lab.bmc_url("h2"))
    finally:
        bmc_lab.do(lambda _lab: machine.power_on())


def test_a_host_without_a_controller_has_no_fence() -> None:
    with pytest.raises(FenceRefused, match="no_bmc"):
        fence_of(make_host())
