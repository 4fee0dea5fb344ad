"""Programs written for the real thing, unchanged, against the lab."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.samples import MIB, vbd_record, vdi_record, vm_record
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import a_network, client, network_named, vif_record

NODE = Path(__file__).with_name("node")
BOOT_SECONDS = 0.2


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(3, guest_boot_seconds=BOOT_SECONDS) as running:
        yield running


def a_server(api: Any, name: str) -> tuple[str, str]:
    """A VM with a disk and an interface, and the disk."""
    vm = api.VM.create(vm_record(name, platform={}))
    (pool,) = api.pool.get_all()
    vdi = api.VDI.create(vdi_record(name, api.pool.get_default_SR(pool), size=64 * MIB))
    api.VBD.create(vbd_record(vm, vdi))
    api.VIF.create(vif_record(vm, network_named(api, "xenbr0")))
    return vm, vdi


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def drivers_are_up(api: Any, vm: str) -> bool:
    metrics = api.VM.get_guest_metrics(vm)
    return metrics != "OpaqueRef:NULL" and bool(
        api.VM_guest_metrics.get_PV_drivers_detected(metrics)
    )


def test_the_official_binding_takes_a_vm_from_its_creation_to_its_end(lab: RunningLab) -> None:
    with client(lab) as api:
        vm, vdi = a_server(api, "walk")
        h1, h2 = (api.host.get_by_name_label(name)[0] for name in ("h1", "h2"))
        api.VM.start_on(vm, h1, False, False)
        assert api.VM.get_power_state(vm) == "Running"
        assert eventually(lambda: drivers_are_up(api, vm))
        task = api.Async.VM.pool_migrate(vm, h2, {"live": "true"})
        assert eventually(lambda: api.task.get_status(task) != "pending")
        assert api.task.get_status(task) == "success", api.task.get_error_info(task)
        api.task.destroy(task)
        assert api.VM.get_resident_on(vm) == h2
        api.VM.clean_shutdown(vm)
        assert api.VM.get_power_state(vm) == "Halted"
        assert api.VM.get_resident_on(vm) == "OpaqueRef:NULL"
        api.VM.destroy(vm)
        api.VDI.destroy(vdi)
        assert api.VM.get_by_name_label("walk") == []
        assert api.VDI.get_by_name_label("walk") == []


class Graph:
    """The npm package `xen-api` in a process of its own, with its event watcher running."""

    def __init__(self, lab: RunningLab) -> None:
        node = shutil.which("node")
        assert node is not None
        secrets = {
            "XAPI_URL": lab.url,
            "XAPI_USER": lab.username,
            "XAPI_PASSWORD": lab.password,
        }
        self._process = subprocess.Popen(
            [node, "graph.mjs"],
            cwd=NODE,
            env={**os.environ, **secrets},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def answer(self) -> Any:
        return json.loads(self._lines.get(timeout=60))

    def compare(self) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write("compare\n")
        self._process.stdin.flush()
        return self.answer()

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def churn(api: Any, n: int) -> None:
    """Make, change, run, and unmake things of many classes."""
    vm, vdi = a_server(api, f"churn {n}")
    api.VM.set_name_description(vm, "changed")
    api.VM.add_to_other_config(vm, "key", "value")
    api.VM.add_tags(vm, "tag")
    api.VM.start(vm, False, False)
    network = a_network(api)
    (h1,) = api.host.get_by_name_label("h1")
    eth1 = next(
        ref
        for ref, pif in api.PIF.get_all_records().items()
        if (pif["host"], pif["device"], pif["VLAN"]) == (h1, "eth1", "-1")
    )
    api.pool.create_VLAN_from_PIF(eth1, network, str(100 + n))
    clone = api.VDI.clone(vdi)
    api.VM.hard_shutdown(vm)
    if n % 2:
        for vlan, record in api.VLAN.get_all_records().items():
            if record["tag"] == str(100 + n):
                api.VLAN.destroy(vlan)
        api.network.destroy(network)
        api.VM.destroy(vm)
        api.VDI.destroy(vdi)
        api.VDI.destroy(clone)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node: sudo apt-get install nodejs")
@pytest.mark.skipif(
    not (NODE / "node_modules" / "xen-api").is_dir(),
    reason="needs npm packages: npm ci --prefix deploy/lab/tests/node",
)
def test_the_event_watcher_of_vates_xen_api_stays_in_step_with_the_pool(lab: RunningLab) -> None:
    with client(lab) as api, Graph(lab) as graph:
        assert graph.answer()["ready"] > 0
        for n in range(4):
            churn(api, n)
        result = graph.compare()
        assert result["equal"], result["differences"]
        assert result["classes"] > 50
        for n in range(4, 6):
            churn(api, n)
        result = graph.compare()
        assert result["equal"], result["differences"]
