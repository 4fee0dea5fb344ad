"""Networks that a fresh pool has, and the interfaces of its hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

INTERFACES = 2


def make_networks(lab: Lab) -> list[Row]:
    """The pool-wide networks, one for each interface of a host."""
    lab.db.create(
        "network",
        name_label="Host internal management network",
        name_description=(
            "Network on which guests will be assigned a private link-local IP address which can be "
            "used to talk XenAPI"
        ),
        bridge="xenapi",
        managed=True,
        other_config={
            "is_guest_installer_network": "true",
            "is_host_internal_management_network": "true",
            "ip_begin": "169.254.0.1",
            "ip_end": "169.254.255.254",
            "netmask": "255.255.0.0",
        },
    )
    return [
        lab.db.create(
            "network", name_label=f"Pool-wide network {n}", bridge=f"xenbr{n}", managed=True
        )
        for n in range(INTERFACES)
    ]


def make_pifs(lab: Lab, host: Row, number: int, networks: list[Row]) -> None:
    """eth0 for management, the others spare."""
    for index, network in enumerate(networks):
        is_management = index == 0
        metrics = lab.db.create(
            "PIF_metrics",
            carrier=True,
            speed=1000,
            duplex=True,
            vendor_id="8086",
            vendor_name="Intel Corporation",
            device_id="1521",
            device_name="I350 Gigabit Network Connection",
            pci_bus_path=f"0000:0{index + 1}:00.0",
            last_updated=lab.clock.date(),
        )
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
            managed=True,
            currently_attached=is_management,
            management=is_management,
            ip_configuration_mode="DHCP" if is_management else "None",
            IP=host.address if is_management else "",
            netmask="255.255.255.0" if is_management else "",
            properties={"gro": "on"},
            igmp_snooping_status="disabled" if is_management else "unknown",
        )
