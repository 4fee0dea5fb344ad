from __future__ import annotations

from deploy.lab.sample_guests import GUESTS, make_guests
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import vms_of

GUEST = 'field "is_control_domain" = "false" and field "is_a_template" = "false"'


def test_a_fresh_pool_gets_guests_that_start() -> None:
    with running_lab(hosts=2, tls=False, rate=50.0, preset="small") as lab:
        lab.wait(make_guests(lab.lab))
        lab.clock.advance(30)
        with vms_of(lab) as vms:
            records = vms.api.VM.get_all_records_where(GUEST).values()
    assert sorted(vm["name_label"] for vm in records) == sorted(name for name, *_ in GUESTS)
    assert {vm["power_state"] for vm in records} == {"Running"}
