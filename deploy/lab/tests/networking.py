"""What the tests of networking share: a client, refused calls, VMs in any state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import XenAPI

from deploy.lab.lab import Lab
from deploy.lab.testing import RunningLab

GIB = 1024**3


@contextmanager
def client(lab: RunningLab) -> Iterator[Any]:
    """A logged-in XenAPI client."""
    session = XenAPI.Session(lab.url, ignore_ssl=True)
    session.xenapi.login_with_password(lab.username, lab.password, "1.0", "tests")
    try:
        yield session.xenapi
    finally:
        session("close")()


def refusal(call: Callable[[], object]) -> list[str]:
    """The error that a call is refused with."""
    try:
        result = call()
    except XenAPI.Failure as failure:
        return list(failure.details)
    raise AssertionError(f"not refused: {result}")


def a_vm(lab: RunningLab, host: str | None = None, **fields: Any) -> str:
    """A VM as VM.create and VM.start would leave it; running on the host when one is named."""

    def make(inner: Lab) -> str:
        drivers = inner.db.create(
            "VM_guest_metrics",
            PV_drivers_detected=True,
            other={"feature-static-ip-setting": "1"},
        )
        running = {"power_state": "Running", "resident_on": host} if host else {}
        row = inner.db.create(
            "VM",
            **{
                "name_label": "a",
                "power_state": "Halted",
                "HVM_boot_policy": "BIOS order",
                "guest_metrics": drivers.ref,
                "metrics": inner.db.create("VM_metrics").ref,
                "other_config": {"mac_seed": "8d2a6ffa-7b1d-4f1c-a3a2-6d2e1ef1c0de"},
                "VCPUs_max": 1,
                "VCPUs_at_startup": 1,
                "memory_static_max": GIB,
                "memory_dynamic_max": GIB,
                "memory_dynamic_min": GIB,
                **running,
                **fields,
            },
        )
        return row.ref

    return lab.do(make)


def vif_record(vm: str, network: str, device: str = "0", **fields: Any) -> dict[str, Any]:
    return {
        "VM": vm,
        "network": network,
        "device": device,
        "MAC": "",
        "MTU": "1500",
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        **fields,
    }


def network_named(api: Any, bridge: str) -> str:
    records: dict[str, Any] = api.network.get_all_records()
    return next(ref for ref, record in records.items() if record["bridge"] == bridge)


def pif_of(api: Any, host: str, device: str) -> str:
    for ref, record in api.PIF.get_all_records().items():
        if record["host"] == host and record["device"] == device and record["VLAN"] == "-1":
            return str(ref)
    raise AssertionError(device)


def a_network(api: Any, **fields: Any) -> str:
    return str(api.network.create({"name_label": "n", "other_config": {}, **fields}))
