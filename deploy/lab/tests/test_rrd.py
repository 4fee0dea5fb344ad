from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import a_vm, client, network_named, refusal, vif_record


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(2, tls=False) as running:
        yield running


@pytest.fixture(scope="module")
def api(lab: RunningLab) -> Iterator[Any]:
    with client(lab) as api:
        yield api


def get(lab: RunningLab, path: str, host: int = 0) -> tuple[int, dict[str, str], bytes]:
    session = lab.do(lambda inner: inner.db.all("session")[-1].ref)
    connection = HTTPConnection(urlsplit(lab.urls[host]).netloc, timeout=10)
    try:
        connection.request("GET", f"{path}&session_id={session}")
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def updates(lab: RunningLab, query: str, host: int = 0) -> Any:
    status, headers, body = get(lab, f"/rrd_updates?{query}&json=true", host)
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(body)


def test_the_latest_row_comes_first_and_every_row_has_every_column(
    lab: RunningLab, api: Any
) -> None:
    answer = updates(lab, f"start={int(time.time()) - 60}&host=true")
    meta, data = answer["meta"], answer["data"]
    assert int(meta["rows"]) == len(data) >= 11
    assert int(meta["columns"]) == len(meta["legend"])
    times = [int(row["t"]) for row in data]
    assert times == list(range(int(meta["end"]), int(meta["start"]) - 1, -5))
    assert all(len(row["values"]) == len(meta["legend"]) for row in data)


def test_xml_and_json_say_the_same(lab: RunningLab, api: Any) -> None:
    query = f"start={int(time.time()) - 600}&interval=60"
    answer = updates(lab, query)
    status, headers, body = get(lab, f"/rrd_updates?{query}")
    assert (status, headers["content-type"]) == (200, "text/xml")
    root = ElementTree.fromstring(body)
    assert [entry.text for entry in root.iter("entry")] == answer["meta"]["legend"]
    assert root.findtext("meta/step") == answer["meta"]["step"] == "60"
    rows = [[v.text for v in row.iter("v")] for row in root.iter("row")]
    assert rows == [row["values"] for row in answer["data"]]


def test_a_running_vm_is_measured_where_it_runs_since_it_runs(lab: RunningLab, api: Any) -> None:
    (h2,) = api.host.get_by_name_label("h2")
    vm = a_vm(lab, h2)
    now = lab.clock.now()

    def boot(inner: Any) -> None:
        row = inner.db.get("VM", vm)
        metrics = inner.db.get("VM_metrics", row.metrics)
        inner.db.update(metrics, start_time=inner.clock.date())

    lab.do(boot)
    api.VIF.plug(api.VIF.create(vif_record(vm, network_named(api, "xenbr0"))))
    uuid = api.VM.get_uuid(vm)
    status, _, body = get(lab, f"/rrd_updates?start={int(now) - 60}&vm_uuid={uuid}")
    assert status == 500
    assert b"Rrd.No_RRA_Available" in body
    lab.clock.advance(30)
    answer = updates(lab, f"start={int(now) - 60}&vm_uuid={uuid}", host=1)
    names = [entry.removeprefix(f"AVERAGE:vm:{uuid}:") for entry in answer["meta"]["legend"]]
    assert {"memory", "cpu0", "vif_0_tx", "vif_0_rx", "memory_internal_free"} <= set(names)
    first, last = answer["data"][0]["values"], answer["data"][-1]["values"]
    assert float(first[names.index("memory")]) == 1024**3
    assert 0 <= float(first[names.index("cpu0")]) <= 1
    assert all(math.isnan(float(value)) for value in last)


def test_a_coarser_archive_answers_for_long_ago(lab: RunningLab, api: Any) -> None:
    now = int(time.time())
    assert updates(lab, f"start={now - 300}")["meta"]["step"] == "5"
    assert updates(lab, f"start={now - 3600}")["meta"]["step"] == "60"
    assert updates(lab, f"start={now - 86400}")["meta"]["step"] == "3600"
    assert updates(lab, "start=0")["meta"]["step"] == "86400"


def test_the_start_has_to_be_a_number(lab: RunningLab, api: Any) -> None:
    assert get(lab, "/rrd_updates?start=x")[0] == 500
    assert get(lab, "/rrd_updates?x=1")[0] == 400


def test_a_whole_database_has_all_archives(lab: RunningLab, api: Any) -> None:
    status, _, body = get(lab, "/host_rrd?json=true")
    whole = json.loads(body)
    assert status == 200
    assert [rra["pdp_per_row"] for rra in whole["rra"]] == ["1", "12", "720", "17280"]
    assert "memory_free_kib" in [source["name"] for source in whole["ds"]]
    xml = ElementTree.fromstring(get(lab, "/host_rrd?x=1")[2])
    assert len(xml.findall("rra")) == 4


def test_the_database_of_a_vm_is_where_it_runs(lab: RunningLab, api: Any) -> None:
    (h2,) = api.host.get_by_name_label("h2")
    uuid = api.VM.get_uuid(a_vm(lab, h2))
    status, headers, _ = get(lab, f"/vm_rrd?uuid={uuid}")
    assert status == 302
    assert headers["Location"].startswith(f"{lab.urls[1]}/vm_rrd?")
    assert get(lab, f"/vm_rrd?uuid={uuid}", host=1)[0] == 200
    off = api.VM.get_uuid(a_vm(lab))
    assert get(lab, f"/vm_rrd?uuid={off}")[0] == 404


def test_single_measurements_can_be_asked_for(lab: RunningLab, api: Any) -> None:
    (h1,) = api.host.get_by_name_label("h1")
    assert api.host.query_data_source(h1, "memory_total_kib") == 64 * 1024**2
    names = [source["name_label"] for source in api.host.get_data_sources(h1)]
    assert {"cpu0", "loadavg", "memory_free_kib"} <= set(names)
    assert refusal(lambda: api.host.query_data_source(h1, "x"))[0] == "INTERNAL_ERROR"
    vm = a_vm(lab, power_state="Suspended")
    expected = ["VM_BAD_POWER_STATE", vm, "running;paused", "suspended"]
    assert refusal(lambda: api.VM.query_data_source(vm, "memory")) == expected
