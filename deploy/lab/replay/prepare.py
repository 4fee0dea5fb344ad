"""Finds the objects of a fresh pool that recordings know by fixed names, and makes missing ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.lab.replay.names import Names
from deploy.lab.replay.places import Facts

Records = dict[str, dict[str, Any]]
Call = Callable[..., Any]
"""call(method, *args without the session): the result. Raises CallFailed."""

_CLASSES = [
    "pool",
    "host",
    "host_metrics",
    "SR",
    "PBD",
    "VDI",
    "network",
    "PIF",
    "PIF_metrics",
    "VM",
    "SM",
    "VBD",
    "VIF",
    "VLAN",
    "Bond",
    "task",
    "console",
    "VM_metrics",
    "VM_guest_metrics",
]


class CallFailed(Exception):
    """The pool answered with an error, or not at all."""


@dataclass
class Inventory:
    """What a pool has before a scenario begins."""

    records: dict[str, Records] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    """Values of fixed names, uuids included."""
    host_names: dict[str, str] = field(default_factory=dict)
    """Recorded name ("h1") by host reference."""

    def add(self, name: str, reference: str, record: Mapping[str, Any]) -> None:
        self.found.setdefault(f"<{name}>", reference)
        if record.get("uuid") and f"<uuid:{name}>" not in self.found:
            self.found[f"<uuid:{name}>"] = str(record["uuid"])


def _text(record: Mapping[str, Any], field: str) -> str:
    """A field that a pool should have; "" where it has not, so that the steps tell."""
    return str(record.get(field, ""))


def take_inventory(call: Call) -> Inventory:
    """Read every class that has fixed names. A class that cannot be read has no objects."""
    inventory = Inventory()
    for name in _CLASSES:
        try:
            inventory.records[name] = dict(call(f"{name}.get_all_records"))
        except CallFailed:
            inventory.records[name] = {}
    _name_hosts(inventory)
    _name_storage(inventory)
    _name_networks(inventory)
    _name_vms(inventory)
    return inventory


def _name_hosts(inventory: Inventory) -> None:
    records = inventory.records
    for reference, record in records["pool"].items():
        inventory.add("pool:pool", reference, record)
    masters = {record.get("master") for record in records["pool"].values()}
    hosts = sorted(
        records["host"].items(),
        key=lambda item: (item[0] not in masters, _text(item[1], "name_label")),
    )
    for number, (reference, record) in enumerate(hosts, 1):
        host = f"h{number}"
        inventory.host_names[reference] = host
        inventory.add(f"host:{host}", reference, record)
        metrics = records["host_metrics"].get(_text(record, "metrics"))
        if metrics:
            inventory.add(f"host_metrics:{host}", _text(record, "metrics"), metrics)


def _name_storage(inventory: Inventory) -> None:
    records = inventory.records
    names: dict[str, str] = {}
    for reference, record in records["SR"].items():
        hosts = [
            inventory.host_names.get(_text(records["PBD"][pbd], "host"), "?")
            for pbd in record.get("PBDs", ())
            if pbd in records["PBD"]
        ]
        name = _storage_name(record, hosts)
        if name and f"<SR:{name}>" not in inventory.found:
            names[reference] = name
            inventory.add(f"SR:{name}", reference, record)
    for reference, record in records["PBD"].items():
        host = inventory.host_names.get(_text(record, "host"))
        if _text(record, "SR") in names and host:
            inventory.add(f"PBD:{names[record['SR']]}@{host}", reference, record)
    for reference, record in records["VDI"].items():
        if names.get(_text(record, "SR")) == "iso":
            inventory.add(f"VDI:iso/{_text(record, 'name_label')}", reference, record)
    for reference, record in records["SM"].items():
        inventory.add(f"SM:{record['type']}", reference, record)


def _storage_name(record: Mapping[str, Any], hosts: Sequence[str]) -> str | None:
    kind = _text(record, "type")
    if kind == "nfs" and record.get("shared"):
        return "nfs"
    if kind == "iso":
        return "iso"
    prefix = {"ext": "local", "lvm": "local", "udev": "dvd"}.get(kind)
    return f"{prefix}-{hosts[0]}" if prefix and len(hosts) == 1 else None


def _name_networks(inventory: Inventory) -> None:
    records = inventory.records
    for reference, record in records["network"].items():
        inventory.add(f"network:{record['bridge']}", reference, record)
    for reference, record in records["PIF"].items():
        host = inventory.host_names.get(_text(record, "host"))
        if not host or record.get("VLAN") not in ("-1", -1):
            continue
        name = f"{host}-{record['device']}"
        inventory.add(f"PIF:{name}", reference, record)
        metrics = records["PIF_metrics"].get(_text(record, "metrics"))
        if metrics:
            inventory.add(f"PIF_metrics:{name}", _text(record, "metrics"), metrics)


def _name_vms(inventory: Inventory) -> None:
    for reference, record in inventory.records["VM"].items():
        if record.get("is_control_domain"):
            host = inventory.host_names.get(_text(record, "resident_on"))
            if host:
                inventory.add(f"VM:dom0@{host}", reference, record)
        elif record.get("is_a_template") and not record.get("is_a_snapshot"):
            inventory.add(f"VM:template {_text(record, 'name_label')}", reference, record)


def bind_fixed(inventory: Inventory, names: Names, binds: Sequence[str], call: Call) -> list[str]:
    """Bind every fixed name; answer those of `binds` that the pool has no object for."""
    _find_roles(inventory, binds, call)
    _make_bonds(inventory, binds, call)
    for name, value in inventory.found.items():
        names.bind(name, value)
    return [name for name in binds if name not in names]


def _find_roles(inventory: Inventory, binds: Sequence[str], call: Call) -> None:
    for bind in binds:
        if bind.startswith("<role:"):
            label = bind[len("<role:") : -1]
            for reference in call("role.get_by_name_label", label):
                inventory.add(
                    f"role:{label}", reference, {"uuid": call("role.get_uuid", reference)}
                )


def _make_bonds(inventory: Inventory, binds: Sequence[str], call: Call) -> None:
    """Some recordings began with a bond on a spare interface: make it, and name its network."""
    for bind in binds:
        wanted = re.fullmatch(r"<PIF:(h\d+)-(bond\d+)>", bind)
        member = wanted and inventory.found.get(f"<PIF:{wanted.group(1)}-eth1>")
        if wanted is None or bind in inventory.found or member is None:
            continue
        network = call(
            "network.create",
            {"name_label": "bonded", "name_description": "", "MTU": "1500", "other_config": {}},
        )
        bond = call("Bond.create", network, [member], "", "balance-slb", {})
        pif = call("Bond.get_master", bond)
        inventory.add(bind[1:-1], pif, {"uuid": call("PIF.get_uuid", pif)})
        for other in binds:
            if re.fullmatch(r"<network:xapi\d+>", other) and other not in inventory.found:
                inventory.add(other[1:-1], network, {"uuid": call("network.get_uuid", network)})


def facts_of(inventory: Inventory) -> Facts:
    hosts = inventory.records["host"]
    known = {*hosts, *(_text(record, "uuid") for record in hosts.values())}
    addresses = {
        name.removeprefix("h"): str(hosts[reference].get("address", ""))
        for reference, name in inventory.host_names.items()
    }
    return Facts(
        addresses=addresses,
        hosts=frozenset(known),
        host_names=frozenset(_text(record, "name_label") for record in hosts.values()),
    )
