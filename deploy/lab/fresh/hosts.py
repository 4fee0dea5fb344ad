"""Hosts: their records, control domains, certificates and hardware inventory."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row, new_ref
from deploy.lab.fresh import facts
from deploy.lab.machine import Machine

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

MIB = 1024**2
CONTROL_DOMAIN_OVERHEAD = 19 * MIB
LESS_IN_METRICS = 10 * MIB
"""By so much less than the hypervisor takes a fresh host's metrics count (recorded)."""
MEMORY_LIMITS = (
    "memory_static_max",
    "memory_static_min",
    "memory_dynamic_max",
    "memory_dynamic_min",
)
CERTIFICATE_LIFE = timedelta(days=3650)


def make_host(lab: Lab, number: int) -> Row:
    """The n-th host, with its control domain; it becomes a machine of the lab."""
    name = f"h{number}"
    address = (lab.config.addresses or _addresses(lab.config.hosts))[number - 1]
    config = lab.config
    taken = config.control_domain_memory + config.hypervisor_memory - LESS_IN_METRICS
    metrics = lab.db.create(
        "host_metrics",
        memory_total=lab.config.memory_per_host,
        memory_free=config.memory_per_host - taken,
        live=True,
        last_updated=lab.clock.date(),
    )
    started = f"{lab.clock.now():.0f}."
    host = lab.db.create(
        "host",
        name_label=name,
        name_description="Default install",
        hostname=name,
        address=address,
        enabled=True,
        metrics=metrics.ref,
        memory_overhead=config.hypervisor_memory,
        API_version_major=2,
        API_version_minor=21,
        API_version_vendor="XenSource",
        software_version=facts.SOFTWARE_VERSION,
        other_config={"agent_start_time": started, "boot_time": started},
        capabilities=facts.CAPABILITIES,
        cpu_info={"cpu_count": str(lab.config.cpus_per_host), **facts.CPU_INFO},
        sched_policy="credit",
        supported_bootloaders=["pygrub", "eliloader"],
        license_params=facts.RESTRICTIONS,
        license_server={"address": "localhost", "port": "27000"},
        edition=facts.EDITION,
        editions=[facts.EDITION],
        bios_strings=facts.BIOS_STRINGS,
        chipset_info={"iommu": "true"},
        virtual_hardware_platform_versions=[0, 1, 2],
        latest_synced_updates_applied="unknown",
        ssl_legacy=False,
        ssh_enabled=True,
        ssh_auto_mode=number == 1,
        ntp_mode="Factory",
        timezone="Etc/UTC",
    )
    _make_control_domain(lab, host)
    for kind in ("host", "host_internal"):
        _make_certificate(lab, host, kind)
    lab.machines[host.ref] = Machine(lab, name, address, lab.config.port, host)
    return host


def _addresses(hosts: int) -> list[str]:
    return [f"127.0.64.{n}" for n in range(1, hosts + 1)]


def _make_control_domain(lab: Lab, host: Row) -> None:
    metrics = lab.db.create("VM_metrics", VCPUs_utilisation={0: 0.0})
    memory = lab.config.control_domain_memory
    limits: dict[str, Any] = dict.fromkeys(MEMORY_LIMITS, memory)
    dom0 = lab.db.create(
        "VM",
        name_label=f"Control domain on host: {host.name_label}",
        name_description="The domain which manages physical devices and manages other domains",
        power_state="Running",
        user_version=1,
        is_control_domain=True,
        resident_on=host.ref,
        affinity=host.ref,
        metrics=metrics.ref,
        domid=0,
        domarch="x64",
        domain_type="pv",
        actions_after_shutdown="destroy",
        actions_after_reboot="destroy",
        actions_after_crash="destroy",
        **limits,
        memory_target=memory,
        memory_overhead=CONTROL_DOMAIN_OVERHEAD,
        VCPUs_max=2,
        VCPUs_at_startup=2,
        generation_id="",
        has_vendor_device=False,
    )
    for protocol in ("rfb", "vt100"):
        ref = new_ref()
        location = f"https://{host.address}/console?ref={ref}"
        lab.db.create("console", ref=ref, protocol=protocol, location=location, VM=dom0.ref)
    lab.db.update(host, control_domain=dom0.ref)


def _make_certificate(lab: Lab, host: Row, kind: str) -> None:
    digest = hashlib.sha256(f"{kind} {host.uuid}".encode())
    sha256 = _fingerprint(digest.digest())
    lab.db.create(
        "Certificate",
        type=kind,
        host=host.ref,
        not_before=lab.clock.date(),
        not_after=lab.clock.date() + CERTIFICATE_LIFE,
        fingerprint=sha256,
        fingerprint_sha256=sha256,
        fingerprint_sha1=_fingerprint(digest.digest()[:20]),
    )


def _fingerprint(digest: bytes) -> str:
    return ":".join(f"{octet:02X}" for octet in digest)


def make_hardware(lab: Lab, host: Row) -> None:
    """Inventory that nothing in the lab depends on: processors, PCI devices, drivers."""
    cpu: dict[str, Any] = {
        name: int(value) if name in ("family", "model") else value
        for name, value in facts.CPU.items()
    }
    for number in range(lab.config.cpus_per_host):
        lab.db.create(
            "host_cpu",
            host=host.ref,
            number=number,
            speed=facts.CPU_SPEED_MHZ,
            **cpu,
        )
    for device in facts.PCI_DEVICES:
        lab.db.create(
            "PCI",
            host=host.ref,
            subsystem_vendor_id=device["vendor_id"],
            subsystem_vendor_name=device["vendor_name"],
            subsystem_device_id=device["device_id"],
            subsystem_device_name=device["device_name"],
            **device,
        )
    for position, name in enumerate(reversed(facts.DRIVERS.split())):
        driver = lab.db.create(
            "Host_driver",
            host=host.ref,
            name=name,
            friendly_name=name,
            type="network",
            description=name,
            info=name,
        )
        for variant in ("generic", "beta")[: 2 if position < 2 else 1]:
            lab.db.create(
                "Driver_variant",
                driver=driver.ref,
                name=variant,
                version="1.2",
                priority=100.0,
                status="beta",
            )
