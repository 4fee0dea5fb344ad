"""XAPI's codes become our errors, and nothing of the pool leaks."""

import json
import os
from pathlib import Path

import pytest
import XenAPI

from worker.hypervisor.port import (
    Busy,
    Gone,
    HypervisorError,
    NoRoom,
    Refused,
    Unreachable,
    UntranslatedFailure,
)
from worker.hypervisor.xapi.errors import TABLE, translate, translate_error_info

DATAMODEL = Path(
    os.environ.get("XAPI_FACTS", Path(__file__).resolve().parents[4] / "shared" / "xapi")
).joinpath("datamodel.json")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("HOST_OFFLINE", Unreachable),
        ("CANNOT_CONTACT_HOST", Unreachable),
        ("HOST_STILL_BOOTING", Unreachable),
        ("SESSION_INVALID", Unreachable),
        ("HOST_IS_SLAVE", Unreachable),
        ("OTHER_OPERATION_IN_PROGRESS", Busy),
        ("TOO_MANY_PENDING_TASKS", Busy),
        ("VDI_IN_USE", Busy),
        ("VM_BAD_POWER_STATE", Busy),
        ("HANDLE_INVALID", Gone),
        ("UUID_INVALID", Gone),
        ("HOST_NOT_ENOUGH_FREE_MEMORY", NoRoom),
        ("NO_HOSTS_AVAILABLE", NoRoom),
        ("HOST_DISABLED", NoRoom),
        ("SR_FULL", NoRoom),
        ("SR_BACKEND_FAILURE_44", NoRoom),
        ("OPERATION_NOT_ALLOWED", Refused),
        ("VM_LACKS_FEATURE", Refused),
        ("VM_MISSING_PV_DRIVERS", Refused),
    ],
)
def test_each_agreed_code_has_its_error(code: str, error: type[HypervisorError]) -> None:
    assert isinstance(translate(XenAPI.Failure([code, "x"])), error)


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "MESSAGE_METHOD_UNKNOWN", "NEW_IN_2031", ""])
def test_a_code_that_is_not_known_is_our_bug_and_never_a_refusal(code: str) -> None:
    error = translate(XenAPI.Failure([code, "x"] if code else []))
    assert isinstance(error, UntranslatedFailure)
    assert not isinstance(error, HypervisorError)


def test_the_sentence_shows_nothing_of_the_pool() -> None:
    error = translate(XenAPI.Failure(["VM_BAD_POWER_STATE", "OpaqueRef:1", "host-of-acme"]))
    assert "OpaqueRef" not in str(error)
    assert "acme" not in str(error)
    assert "VM_BAD" not in str(error)


def test_an_unknown_failure_keeps_its_code_but_not_its_parameters() -> None:
    error = translate(XenAPI.Failure(["NEW_IN_2031", "OpaqueRef:1"]))
    assert isinstance(error, UntranslatedFailure)
    assert error.code == "NEW_IN_2031"
    assert "OpaqueRef" not in str(error)


def test_a_tasks_error_keeps_what_was_said_for_operators() -> None:
    error = translate_error_info(["VDI_IN_USE", "OpaqueRef:1"])
    assert isinstance(error.__cause__, XenAPI.Failure)
    assert error.__cause__.details == ["VDI_IN_USE", "OpaqueRef:1"]


def test_a_host_that_could_not_be_contacted_may_have_done_it() -> None:
    assert translate(XenAPI.Failure(["CANNOT_CONTACT_HOST", "x"])).may_have_happened
    assert not translate(XenAPI.Failure(["HOST_DISABLED", "x"])).may_have_happened


def test_every_reason_is_a_word_of_ours() -> None:
    assert all(m.reason.replace("_", "").isalpha() and m.reason.islower() for m in TABLE.values())


@pytest.mark.skipif(not DATAMODEL.is_file(), reason="the published XAPI datamodel is not here")
def test_every_code_is_one_that_xapi_has() -> None:
    model = json.loads(DATAMODEL.read_text())
    published = {error["name"] for error in model["errors"]}
    published |= set(model["error_codes_without_description"])
    backend = {code for code in TABLE if code.startswith("SR_BACKEND_FAILURE_")}
    assert set(TABLE) - backend <= published
