"""How a container ended: what its guest tells, as Docker numbers it."""

from __future__ import annotations

from typing import Any

import pytest

from hosting.compute.choices import DesiredState
from hosting.compute.exits import Exit, exit_of
from hosting.compute.selectors import find_container, observe
from hosting.compute.tests.makers import make_instance
from hosting.fleet.models import VirtualMachine
from hosting.fleet.tests.makers import make_host, make_vm
from tenants.tests.makers import make_tenant


@pytest.mark.parametrize(
    ("told", "exit_"),
    [
        ("code 0", Exit(0, "Ended with 0.")),
        ("code 127", Exit(127, "Ended with 127.")),
        ("signal 9", Exit(137, "Ended by signal 9.")),
        ("signal 15", Exit(143, "Ended by signal 15.")),
        ("failed no config disk", Exit(125, "It could not be started: no config disk.")),
    ],
)
def test_what_a_guest_tells_becomes_dockers_number(told: str, exit_: Exit) -> None:
    assert exit_of({"exit": told}) == exit_


@pytest.mark.parametrize(
    "told",
    [
        "",
        "code",
        "code 256",
        "code -1",
        "signal 999",
        "code 0 ",
        "failed ",
        "failed a\nb",
        "x" * 5000,
        "failed " + "x" * 201,
    ],
)
def test_what_means_nothing_is_no_end(told: str) -> None:
    assert exit_of({"exit": told}) is None


def test_who_did_not_say_has_no_end() -> None:
    assert exit_of({}) is None
    assert exit_of(None) is None


@pytest.mark.django_db
@pytest.mark.parametrize(("power_state", "code"), [("Halted", 3), ("Running", None)])
def test_a_container_tells_how_it_ended_once_it_has(power_state: str, code: Any) -> None:
    tenant = make_tenant()
    host = make_host()
    instance = make_instance(tenant, host=host)
    make_vm(host.pool, instance_uuid=instance.pk, power_state=power_state)
    VirtualMachine.objects.update(vm_data={"exit": "code 3"})
    seen = observe(find_container(tenant=tenant, uuid=instance.container_id))
    assert seen.container.desired_state == DesiredState.RUNNING
    assert (seen.exit.code if seen.exit else None) == code
