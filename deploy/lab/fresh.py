"""A fresh pool: what is there before anyone has made a VM (recorded: records_fresh_pool)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.database import Row, new_ref
from deploy.lab.machine import Machine
from deploy.lab.sessions import make_roles

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

MIB = 1024**2


def build_pool(lab: Lab) -> None:
    with lab.quietly():
        make_roles(lab)
        networks = _networks(lab)
        hosts = [_host(lab, number) for number in range(1, lab.config.hosts + 1)]
        lab.coordinator = lab.machine(hosts[0].ref)
        for number, host in enumerate(hosts, 1):
            _pifs(lab, host, number, networks)
        shared = _storage(lab, hosts)
        _pool(lab, hosts[0], shared)


def _pool(lab: Lab, master: Row, shared: Row) -> None:
    lab.db.create(
        "pool",
        name_label=lab.config.pool_name,
        master=master.ref,
        default_SR=shared.ref,
        suspend_image_SR=shared.ref,
        crash_dump_SR=shared.ref,
        other_config={"memory-ratio-hvm": "0.25", "memory-ratio-pv": "0.25"},
    )


def _networks(lab: Lab) -> list[Row]:
    return [
        lab.db.create(
            "network", name_label=f"Pool-wide network {n}", bridge=f"xenbr{n}", managed=True
        )
        for n in range(2)
    ]


def _host(lab: Lab, number: int) -> Row:
    name = f"h{number}"
    address = (lab.config.addresses or _addresses(lab.config.hosts))[number - 1]
    metrics = lab.db.create(
        "host_metrics",
        memory_total=lab.config.memory_per_host,
        memory_free=lab.config.memory_per_host - 2700 * MIB,
        live=True,
        last_updated=lab.clock.date(),
    )
    host = lab.db.create(
        "host",
        name_label=name,
        name_description="Default install",
        hostname=name,
        address=address,
        enabled=True,
        metrics=metrics.ref,
        memory_overhead=650 * MIB,
        virtual_hardware_platform_versions=[0, 1, 2],
        API_version_major=2,
        API_version_minor=21,
        API_version_vendor="XenSource",
        software_version={
            "product_version": "8.3.0",
            "product_brand": "Bulkhead lab",
            "platform_name": "XCP",
            "xapi": "26.1",
            "xapi_build": "26.1.19",
        },
        cpu_info={"cpu_count": str(lab.config.cpus_per_host), "vendor": "GenuineIntel"},
    )
    _control_domain(lab, host)
    lab.machines[host.ref] = Machine(lab, name, address, lab.config.port, host)
    return host


def _addresses(hosts: int) -> list[str]:
    return [f"127.0.64.{n}" for n in range(1, hosts + 1)]


def _control_domain(lab: Lab, host: Row) -> None:
    metrics = lab.db.create("VM_metrics")
    dom0 = lab.db.create(
        "VM",
        ref=new_ref(),
        name_label=f"Control domain on host: {host.name_label}",
        power_state="Running",
        is_control_domain=True,
        resident_on=host.ref,
        affinity=host.ref,
        metrics=metrics.ref,
        domid=0,
        memory_static_max=2048 * MIB,
        memory_static_min=2048 * MIB,
        memory_dynamic_max=2048 * MIB,
        memory_dynamic_min=2048 * MIB,
        VCPUs_max=2,
        VCPUs_at_startup=2,
    )
    lab.db.update(host, control_domain=dom0.ref)


def _pifs(lab: Lab, host: Row, number: int, networks: list[Row]) -> None:
    for index, network in enumerate(networks):
        metrics = lab.db.create("PIF_metrics", carrier=True, speed=1000, duplex=True)
        lab.db.create(
            "PIF",
            device=f"eth{index}",
            network=network.ref,
            host=host.ref,
            MAC=f"02:00:00:00:{number:02x}:{index:02x}",
            MTU=1500,
            VLAN=-1,
            metrics=metrics.ref,
            physical=True,
            currently_attached=index == 0,
            management=index == 0,
            ip_configuration_mode="DHCP" if index == 0 else "None",
            IP=host.address if index == 0 else "",
        )


def _storage(lab: Lab, hosts: list[Row]) -> Row:
    shared = lab.db.create(
        "SR",
        name_label="Shared NFS",
        type="nfs",
        content_type="user",
        shared=True,
        physical_size=lab.config.shared_storage,
    )
    for host in hosts:
        lab.db.create("PBD", host=host.ref, SR=shared.ref, currently_attached=True)
        local = lab.db.create(
            "SR",
            name_label="Local storage",
            type="ext",
            content_type="user",
            physical_size=lab.config.local_storage,
        )
        lab.db.create("PBD", host=host.ref, SR=local.ref, currently_attached=True)
    return shared
