"""What comes before a call's meaning: names, arities, types, references, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from XenAPI import XenAPI

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

NOBODY = "OpaqueRef:00000000-1111-2222-3333-444444444444"


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, preset="small", wrong_password_delay=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.mark.parametrize(
    "name", ["VM.frobnicate", "vm.get_all", "nosuch.get_all", "VM.set_uuid", "VM.set_power_state"]
)
def test_an_unknown_method_is_named(vms: Vms, name: str) -> None:
    cls, method = name.split(".")
    answer = error_of(getattr(getattr(vms.api, cls), method))
    assert answer == ["MESSAGE_METHOD_UNKNOWN", name]


@pytest.mark.parametrize(
    ("name", "arguments", "expected", "given"),
    [
        ("VM.start", ("x",), "3", "1"),
        ("VM.get_all", ("x",), "0", "1"),
        ("VM.get_record", (), "1", "0"),
        ("host.evacuate", (), "1", "0"),
    ],
)
def test_arguments_are_counted_without_the_session(
    vms: Vms, name: str, arguments: tuple[Any, ...], expected: str, given: str
) -> None:
    cls, method = name.split(".")
    answer = error_of(getattr(getattr(vms.api, cls), method), *arguments)
    assert answer == ["MESSAGE_PARAMETER_COUNT_MISMATCH", name, expected, given]


@pytest.mark.parametrize("ref", ["x", "", "OpaqueRef:NULL", NOBODY])
def test_a_reference_to_nothing_is_invalid(vms: Vms, ref: str) -> None:
    assert error_of(vms.api.VM.get_record, ref) == ["HANDLE_INVALID", "VM", ref]


def test_a_reference_to_another_class_is_invalid(vms: Vms) -> None:
    host = vms.hosts["h1"]
    assert error_of(vms.api.VM.get_record, host) == ["HANDLE_INVALID", "VM", host]


def test_a_uuid_of_nothing_is_invalid(vms: Vms) -> None:
    assert error_of(vms.api.VM.get_by_uuid, "nope") == ["UUID_INVALID", "VM", "nope"]
    assert vms.api.VM.get_by_name_label("nobody") == []


@pytest.mark.parametrize(
    ("setter", "value", "complaint"),
    [
        ("set_name_label", 17, "Expected string, got 'I(17)'"),
        ("set_VCPUs_max", "abc", "Int64.of_string"),
        ("set_is_a_template", "yes", "Expected bool, got 'S(yes)'"),
        ("set_tags", {"a": "b"}, "Expecting Rpc.Enum, but found '{a:S(b)}'"),
    ],
)
def test_a_badly_typed_argument_is_an_internal_error(
    vms: Vms, setter: str, value: Any, complaint: str
) -> None:
    answer = error_of(getattr(vms.api.VM, setter), vms.vm(), value)
    assert answer == ["INTERNAL_ERROR", f'Failure("{complaint}")']


def test_a_member_sends_its_clients_to_the_coordinator(vms: Vms) -> None:
    member = XenAPI.Session(vms.lab.urls[1], ignore_ssl=True)
    answer = error_of(member.login_with_password, "root", vms.lab.password, "2.21", "t")
    member("close")()
    assert answer == ["HOST_IS_SLAVE", vms.api.host.get_address(vms.hosts["h1"])]


def test_a_wrong_password_is_refused(vms: Vms) -> None:
    client = XenAPI.Session(vms.lab.url, ignore_ssl=True)
    answer = error_of(client.login_with_password, "root", "wrong", "2.21", "t")
    client("close")()
    assert answer == ["SESSION_AUTHENTICATION_FAILED", "root", "Authentication failure"]


def test_a_session_ends_with_its_logout(vms: Vms) -> None:
    client = XenAPI.Session(vms.lab.url, ignore_ssl=True)
    client.login_with_password("root", vms.lab.password, "2.21", "t")
    ended = client._session
    client.logout()
    raw = client.VM.get_all(ended)
    client("close")()
    assert raw == {"Status": "Failure", "ErrorDescription": ["SESSION_INVALID", ended]}


def test_a_password_is_changed_by_who_knows_it(vms: Vms) -> None:
    answer = error_of(vms.api.session.change_password, "wrong", "new")
    assert answer[0] == "CHANGE_PASSWORD_REJECTED"
    vms.api.session.change_password(vms.lab.password, vms.lab.password)
