"""A suspended VM's boot record, HA that is off, changes of the pool, plugins, measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def suspend_a(pool: Pool) -> None:
    pool.make_whole("a")
    pool.api.VM.start_on(pool["a"], pool["h2"], False, False)
    pool.api.VM.suspend(pool["a"])
    pool.bind("session", pool.session._session)


def boot_record(pool: Pool) -> dict[str, Any]:
    record = pool.api.VM.get_boot_record(pool["a"])
    ((task, operation),) = record["current_operations"].items()
    assert task.startswith("DummyRef:|")
    assert task.endswith("|VM.get_boot_record")
    assert record["suspend_VDI"] == pool.api.VM.get_suspend_VDI(pool["a"])
    shown = ("allowed_operations", "power_state", "name_label", "resident_on", "memory_target")
    return {"operation": operation} | {name: record[name] for name in shown}


BOOT_RECORD = {
    "operation": "get_boot_record",
    "allowed_operations": ["hard_shutdown"],
    "power_state": "Suspended",
    "name_label": "a",
    "resident_on": "OpaqueRef:NULL",
    "memory_target": "1073741824",
}


def all_messages(pool: Pool) -> bool:
    refs = pool.api.message.get_all()
    return bool(refs) and set(refs) == set(pool.api.message.get_all_records())


def first_cpu(pool: Pool) -> dict[str, Any]:
    sources = pool.api.host.get_data_sources(pool["h1"])
    by_name = {source["name_label"]: source for source in sources}
    assert {"cpu0", "cpu1", "cpu10", "cpu11", "cpu12"} <= by_name.keys()
    found: dict[str, Any] = by_name["cpu0"]
    del found["name_description"]
    return found | {"value": type(found["value"])}


CPU0 = {
    "name_label": "cpu0",
    "enabled": True,
    "standard": True,
    "units": "(fraction)",
    "min": 0.0,
    "max": 1.0,
    "value": float,
}


def host_time_is_the_labs(pool: Pool) -> bool:
    before = pool.lab.lab.clock.date()
    told = pool.api.host.get_servertime(pool["h1"]).value
    after = pool.lab.lab.clock.date()
    return f"{before:%Y%m%dT%H:%M:%SZ}" <= str(told) <= f"{after:%Y%m%dT%H:%M:%SZ}"


def measurements(pool: Pool) -> dict[str, Any]:
    start = int(pool.lab.clock.now()) - 20
    connection = HTTPConnection(urlsplit(pool.lab.url).netloc, timeout=10)
    query = f"start={start}&json=true&host=true&session_id={pool['session']}"
    try:
        connection.request("GET", f"/rrd_updates?{query}")
        meta = json.loads(connection.getresponse().read())["meta"]
    finally:
        connection.close()
    host = pool.api.host.get_uuid(pool["h1"])
    assert meta["columns"] == str(len(meta["legend"]))
    assert f"AVERAGE:host:{host}:pool_session_count" in meta["legend"]
    return {"keys": list(meta), "step": meta["step"]}


STEPS: list[Step] = [
    suspend_a,
    Look("`VM.get_boot_record('<a>',)`", boot_record, BOOT_RECORD),
    "`pool.ha_compute_max_host_failures_to_tolerate()` → 2",
    "`pool.ha_compute_hypothetical_max_host_failures_to_tolerate({'<a>': 'restart'},)` → 1",
    "`pool.set_ha_host_failures_to_tolerate('<pool>', '1')` → ",
    "`pool.disable_ha()` → **['HA_NOT_ENABLED']**",
    "`pool.eject('<h1>',)` [coordinator] → **['INTERNAL_ERROR', 'Xapi_pool.Cannot_eject_master']**",
    "`pool.designate_new_master('<h1>',)` [already] → ",
    "`pool.join('192.0.2.1', 'root', 'xenroot')` [already in the pool] → **['OPERATION_NOT_ALLOWED', 'Host is already part of a pool']**",
    "`VM.get_SRs_required_for_recovery('<a>', '<session>')` → []",
    Look("`message.get_all()`", all_messages, True),
    "`host.call_plugin('<h1>', 'nope', 'f', {})` → **['XENAPI_MISSING_PLUGIN', 'nope']**",
    Look("`host.get_data_sources('<h1>',)`", first_cpu, CPU0),
    "`VM.query_data_source('<a>', 'memory')` → **['VM_BAD_POWER_STATE', '<a>', 'running;paused', 'suspended']**",
    Look("`host.get_servertime('<h1>',)`", host_time_is_the_labs, True),
    "`VM.assert_operation_valid('<a>', 'start')` → **['VM_BAD_POWER_STATE', '<a>', 'halted', 'suspended']**",
    "`VM.copy_bios_strings('<a>', '<h1>')` → **['VM_BIOS_STRINGS_ALREADY_SET']**",
    "`VM.set_appliance('<a>', 'OpaqueRef:NULL')` → ",
    Look(
        'GET /rrd_updates → {"meta":{"start":',
        measurements,
        {"keys": ["start", "step", "end", "rows", "columns", "legend"], "step": "5"},
    ),
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_the_rest_answers_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
