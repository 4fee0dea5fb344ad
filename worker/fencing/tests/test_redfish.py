"""Redfish as real controllers speak it."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.lab.certificates import make_certificate
from deploy.lab.testing import RunningLab
from worker.fencing.port import FenceRefused, FenceUnreachable, NotProven, PowerState
from worker.fencing.redfish import Account, Patience, Redfish
from worker.fencing.tests.conftest import QUICK, account_of
from worker.fencing.tests.controller import RESET, SYSTEM, Controller, running_controller


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def fence_of(controller: Controller, **given: str) -> Redfish:
    clock = Clock()
    account = replace(controller.account, **given)
    return Redfish(account, patience=Patience(), now=clock.now, sleep=clock.sleep)


def test_one_reading_of_off_is_no_proof() -> None:
    states: list[str | None] = ["On", "Off", "On"]
    with running_controller(states=states) as controller, pytest.raises(NotProven):
        fence_of(controller).power_off()


def test_it_waits_for_a_machine_that_takes_its_time() -> None:
    states: list[str | None] = ["On", "PoweringOff", "PoweringOff", "Off"]
    with running_controller(states=states) as controller:
        fence_of(controller).power_off()
        assert controller.resets == [{"ResetType": "ForceOff"}]


def test_a_machine_that_is_off_is_sent_nothing() -> None:
    with running_controller(states=["Off"]) as controller:
        fence_of(controller).power_off()
        assert controller.resets == []


def test_a_complaint_about_a_reset_that_worked_is_no_refusal() -> None:
    answers = {RESET: (409, {"error": {"code": "already off"}})}
    with running_controller(states=["On", "Off"], answers=answers) as controller:
        fence_of(controller).power_off()


@pytest.mark.parametrize("state", [None, "", "Sleeping", "off"])
def test_a_state_that_is_not_off_is_not_taken_for_it(state: str | None) -> None:
    with running_controller(states=[state]) as controller:
        fence = fence_of(controller)
        assert fence.power_state() is PowerState.UNKNOWN
        with pytest.raises(NotProven):
            fence.power_off()


SEVERAL = {"Members": [{"@odata.id": SYSTEM}, {"@odata.id": "/redfish/v1/Systems/other"}]}


def test_of_several_systems_none_is_guessed() -> None:
    with running_controller(answers={"/redfish/v1/Systems": (200, SEVERAL)}) as controller:
        with pytest.raises(FenceRefused, match="several_systems"):
            fence_of(controller).power_off()
        named = fence_of(controller, url=controller.account.url + SYSTEM)
        assert named.describe().serial == "S-1"
        assert controller.resets == []


ELSEWHERE = "https://192.0.2.1/redfish/v1/Systems"
TROUBLES: list[tuple[dict[str, tuple[int, Any]], type[Exception], str]] = [
    ({"/redfish/v1/": (401, {})}, FenceRefused, "credentials"),
    ({"/redfish/v1/": (403, {})}, FenceRefused, "credentials"),
    ({"/redfish/v1/": (500, {})}, FenceRefused, "http_500"),
    ({"/redfish/v1/": (302, None)}, FenceRefused, "http_302"),
    ({"/redfish/v1/": (200, "a word")}, FenceUnreachable, "protocol"),
    ({"/redfish/v1/": (200, {})}, FenceUnreachable, "protocol"),
    ({"/redfish/v1/": (200, {"Systems": {"@odata.id": ELSEWHERE}})}, FenceUnreachable, "protocol"),
    ({"/redfish/v1/Systems": (200, {"Members": []})}, FenceRefused, "no_system"),
    ({"/redfish/v1/Systems": (404, {})}, FenceRefused, "http_404"),
    ({SYSTEM: (200, {"Name": "Blade"})}, FenceRefused, "no_power_state"),
    ({SYSTEM: (200, {"PowerState": "x" * 2**20})}, FenceUnreachable, "protocol"),
    ({SYSTEM: (200, {"PowerState": "On"})}, FenceRefused, "no_reset"),
    (
        {
            SYSTEM: (
                200,
                {
                    "PowerState": "On",
                    "Actions": {
                        "#ComputerSystem.Reset": {
                            "target": RESET,
                            "ResetType@Redfish.AllowableValues": ["GracefulShutdown"],
                        }
                    },
                },
            )
        },
        FenceRefused,
        "no_ForceOff",
    ),
    (
        {
            SYSTEM: (
                200,
                {
                    "PowerState": "On",
                    "Actions": {"#ComputerSystem.Reset": {"target": "//192.0.2.1/redfish/x"}},
                },
            )
        },
        FenceUnreachable,
        "protocol",
    ),
]


@pytest.mark.parametrize(("answers", "kind", "reason"), TROUBLES)
def test_what_goes_wrong_has_a_word(answers: Any, kind: type[Exception], reason: str) -> None:
    with running_controller(answers=answers) as controller:
        with pytest.raises(kind, match=reason):
            fence_of(controller).power_off()
        assert controller.resets == []


def test_all_of_power_off_has_one_end_in_time() -> None:
    clock = Clock()
    with running_controller(states=["On"]) as controller:
        fence = Redfish(controller.account, patience=Patience(), now=clock.now, sleep=clock.sleep)
        with pytest.raises(NotProven):
            fence.power_off()
    assert clock.seconds <= Patience().per_call


def test_an_unknown_certificate_is_told_no_password() -> None:
    _, stranger = make_certificate("bmc", "127.0.0.1")
    with running_controller() as controller:
        with pytest.raises(FenceUnreachable, match="certificate"):
            fence_of(controller, certificate=stranger).power_state()
        assert controller.logins == []


def test_nobody_there_is_unreachable() -> None:
    with running_controller() as controller:
        gone = controller.account
    with pytest.raises(FenceUnreachable, match="no_connection"):
        Redfish(gone, patience=QUICK).power_state()


def test_only_https_will_do() -> None:
    with pytest.raises(ValueError, match="https"):
        Redfish(Account("http://192.0.2.1", "admin", "geheim", ""))


def test_a_password_is_not_in_what_is_printed() -> None:
    assert "geheim" not in repr(Account("https://192.0.2.1", "admin", "geheim", ""))


def test_wrong_credentials_are_told_by_the_labs_controllers(bmc_lab: RunningLab) -> None:
    fence = Redfish(account_of(bmc_lab, "h1", password="wrong"), patience=QUICK)
    with pytest.raises(FenceRefused, match="credentials"):
        fence.power_state()


def test_a_machine_can_be_recognised(bmc_lab: RunningLab) -> None:
    told = Redfish(account_of(bmc_lab, "h1"), patience=QUICK).describe()
    assert (told.name, told.power) == ("h1", PowerState.ON)
    assert told.uuid == bmc_lab.lab.machine("h1").host.uuid
