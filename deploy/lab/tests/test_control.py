from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from deploy.lab import control
from deploy.lab.control import control_application
from deploy.lab.testing import RunningLab, running_lab

SYSTEM = "/redfish/v1/Systems/1"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(hosts=3, sides=True, rate=50.0) as running:
        yield running


def ask(url: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30, context=_anyone()) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def _anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def bmc(lab: RunningLab, host: str, path: str, body: Any = None, password: str = "") -> Any:
    config = lab.lab.config
    login = f"{config.bmc_username}:{password or config.bmc_password}"
    return ask(
        lab.bmc_url(host) + path, body, Authorization=f"Basic {b64encode(login.encode()).decode()}"
    )


def power_of(lab: RunningLab, host: str) -> str:
    return str(bmc(lab, host, SYSTEM)[1]["PowerState"])


def wait_for_power(lab: RunningLab, host: str, state: str) -> None:
    for _ in range(100):
        if power_of(lab, host) == state:
            return
        lab.clock.advance(1)
    raise AssertionError(f"{host} is not {state}")


def test_the_overview_names_every_host_and_the_coordinator(lab: RunningLab) -> None:
    _, overview = ask(lab.control_url)
    assert overview["coordinator"] == "h1"
    assert [host["name"] for host in overview["hosts"]] == ["h1", "h2", "h3"]


def test_a_power_cut_ends_what_a_host_answers_and_power_brings_it_back(lab: RunningLab) -> None:
    assert ask(f"{lab.control_url}/hosts/h3/power", {"state": "off"})[1]["powered"] is False
    with pytest.raises(OSError):
        urllib.request.urlopen(lab.urls[2], timeout=5, context=_anyone())
    ask(f"{lab.control_url}/hosts/h3/power", {"state": "on"})
    lab.clock.advance(60)
    status, _ = ask(f"{lab.control_url}/hosts/h3/power", {"state": "on"})
    assert status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/hosts/h9/power", {"state": "off"}, 404, "there are h1, h2, h3"),
        ("/hosts/h2/power", {"state": "maybe"}, 400, "has to be one of"),
        ("/hosts/h2/power", {"states": "off"}, 400, "Unknown: states"),
        ("/clock", {"advance": -1}, 400, "not below 0"),
        ("/clock", {"rate": True}, 400, "has to be a number"),
        ("/faults", {"action": "error"}, 400, "needs error"),
        ("/faults", {"action": "explode"}, 400, "has to be one of"),
        ("/storage/nope", {"free": 1}, 404, "no storage repository"),
        ("/vms/nope/guest", {"do": "crash"}, 404, "No domain"),
        ("/clock", [1], 400, "has to be a JSON object"),
    ],
)
def test_a_wrong_request_is_told_what_to_do(
    lab: RunningLab, path: str, body: Any, status: int, says: str
) -> None:
    answered, answer = ask(lab.control_url + path, body)
    assert answered == status
    assert says in answer["error"]


def test_a_web_page_cannot_send_orders_unasked(lab: RunningLab) -> None:
    status, _ = ask(f"{lab.control_url}/sessions/forget", {}, **{"Content-Type": "text/plain"})
    assert status == 415


def test_the_clock_is_moved_and_its_rate_changed(lab: RunningLab) -> None:
    before = lab.clock.now()
    _, answer = ask(f"{lab.control_url}/clock", {"advance": 1000, "rate": 10})
    assert answer["now"] >= before + 1000
    assert answer["rate"] == 10
    ask(f"{lab.control_url}/clock", {"rate": 50})


def test_faults_are_listed_and_cleared(lab: RunningLab) -> None:
    ask(f"{lab.control_url}/faults", {"method": "VM.start", "action": "drop_after", "times": 2})
    _, rules = ask(f"{lab.control_url}/faults")
    assert [(rule["method"], rule["times"]) for rule in rules] == [("VM.start", 2)]
    assert ask(f"{lab.control_url}/faults", method="DELETE")[1] == []


def test_a_bmc_wants_its_password(lab: RunningLab) -> None:
    assert ask(lab.bmc_url("h2") + SYSTEM)[0] == 401
    assert bmc(lab, "h2", SYSTEM, password="wrong")[0] == 401


def test_force_off_through_the_bmc_is_proven_by_reading_back(lab: RunningLab) -> None:
    reset = f"{SYSTEM}/Actions/ComputerSystem.Reset"
    assert power_of(lab, "h2") == "On"
    assert bmc(lab, "h2", reset, {"ResetType": "ForceOff"})[0] == 204
    wait_for_power(lab, "h2", "Off")
    assert not lab.do(lambda inside: inside.machine("h2").powered)
    bmc(lab, "h2", reset, {"ResetType": "On"})
    wait_for_power(lab, "h2", "On")


def test_a_bmc_that_only_says_yes_leaves_the_host_on(lab: RunningLab) -> None:
    ask(f"{lab.control_url}/hosts/h2/bmc", {"fault": "ignores"})
    assert (
        bmc(lab, "h2", f"{SYSTEM}/Actions/ComputerSystem.Reset", {"ResetType": "ForceOff"})[0]
        == 204
    )
    lab.clock.advance(30)
    assert power_of(lab, "h2") == "On"
    ask(f"{lab.control_url}/hosts/h2/bmc", {"fault": None})


def test_an_unknown_reset_type_is_refused_with_those_that_exist(lab: RunningLab) -> None:
    status, answer = bmc(lab, "h2", f"{SYSTEM}/Actions/ComputerSystem.Reset", {"ResetType": "Melt"})
    assert status == 400
    assert "ForceOff" in answer["error"]["message"]


def test_every_path_of_the_control_api_is_described_where_it_is_written(lab: RunningLab) -> None:
    served = {
        route.path for route in control_application(lab.lab).routes if isinstance(route, Route)
    }
    described = set(re.findall(r"(?:GET|POST|DELETE) +(/\S*(?: uuid}\S*)?)", control.__doc__ or ""))
    assert {re.sub(r"{[^}]*}", "{}", path.rstrip(",")) for path in described} == {
        re.sub(r"{[^}]*}", "{}", path) for path in served
    }
