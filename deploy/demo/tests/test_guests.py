import ssl
from collections.abc import Iterator

import pytest

from deploy.demo.guests import GUESTS, Refused, Xapi, ensure_guests
from deploy.lab.testing import RunningLab, running_lab

GUEST = 'field "is_control_domain" = "false" and field "is_a_template" = "false"'


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(hosts=2, rate=50.0, preset="small") as running:
        yield running


def connect(lab: RunningLab) -> Xapi:
    return Xapi(lab.url, lab.certificates[0], lab.username, lab.password)


def test_a_fresh_lab_gets_its_guests_once_and_they_start(lab: RunningLab) -> None:
    xapi = connect(lab)
    ensure_guests(xapi)
    ensure_guests(xapi)
    lab.clock.advance(30)
    records = xapi.call("VM.get_all_records_where", GUEST).values()
    assert sorted(vm["name_label"] for vm in records) == sorted(name for name, *_ in GUESTS)
    assert {vm["power_state"] for vm in records} == {"Running"}
    xapi.close()


def test_a_host_with_another_certificate_is_not_spoken_to(lab: RunningLab) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Xapi(lab.url, lab.certificates[1], lab.username, lab.password)


def test_a_refusal_says_what_xapi_said(lab: RunningLab) -> None:
    lab.lab.config.wrong_password_delay = 0.0
    with pytest.raises(Refused, match="SESSION_AUTHENTICATION_FAILED"):
        Xapi(lab.url, lab.certificates[0], lab.username, "wrong")
