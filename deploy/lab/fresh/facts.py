"""What the recorded pool's hosts and licence said of themselves (records_fresh_pool).

The licence is a free edition with every feature on. The version strings are those of XCP-ng 8.3:
clients (Xen Orchestra among them) read product_brand and product_version to tell which calls and
which defaults they can use, and the lab answers as such a pool does; build_number tells it apart.
"""

from __future__ import annotations

_UNRESTRICTED = """
    vlan qos pool_attached_storage netapp equalogic pooling marathon email_alerting
    historical_performance wlb rbac dmc checkpoint cpu_masking connection vmpr vmss intellicache gpu
    dr vif_locking storage_xen_motion vgpu integrated_gpu_passthrough vss guest_agent_auto_update
    pci_device_for_auto_update xen_motion guest_ip_setting ad nested_virt live_patching
    set_vcpus_number_live pvs_proxy igmp_snooping rpu pool_size cbt usb_passthrough network_sriov
    corosync cluster_address zstd_export pool_secret_rotation certificate_verification updates
    internal_repo_access vtpm vm_groups vm_start vm_appliance_start
"""
RESTRICTIONS = {f"restrict_{name}": "false" for name in _UNRESTRICTED.split()} | {
    "enable_xha": "true",
    "platform_filter": "false",
    "regular_nag_dialog": "false",
}
EDITION = "xcp-ng"

SOFTWARE_VERSION = {
    "product_version": "8.3.0",
    "product_version_text": "8.3",
    "product_version_text_short": "8.3",
    "platform_name": "XCP",
    "platform_version": "3.4.0",
    "product_brand": "XCP-ng",
    "xapi": "26.1",
    "xapi_build": "26.1.19",
    "build_number": "bulkhead-lab",
    "git_id": "0",
    "hostname": "localhost",
    "date": "2026-01-01",
    "xen": "4.17.5",
    "linux": "4.19.0+1",
    "xencenter_min": "2.21",
    "xencenter_max": "2.21",
    "network_backend": "openvswitch",
    "db_schema": "5.798",
}

_FEATURES = (
    "1fcbfbff-f7fa3223-2d93fbff-00000123-00000001-000c07ab-00000000-00000000-00001000-9c000400"
    + "-00000000" * 12
)
POOL_FEATURES = {"features_hvm_host": _FEATURES, "features_pv_host": _FEATURES}
CPU = {
    "vendor": "GenuineIntel",
    "modelname": "Simulated CPU @ 2.40GHz",
    "family": "6",
    "model": "85",
    "stepping": "7",
    "flags": (
        "fpu de tsc msr pae mce cx8 apic sep mca cmov pat clflush acpi mmx fxsr sse sse2 ss ht "
        "syscall nx lm constant_tsc rep_good nopl hypervisor"
    ),
}
CPU_SPEED_MHZ = 2400
CPU_INFO = {
    "socket_count": "1",
    "threads_per_core": "1",
    "nr_nodes": "1",
    "speed": f"{CPU_SPEED_MHZ}.000",
    "features_pv": _FEATURES,
    "features_hvm": _FEATURES,
    **CPU,
    **POOL_FEATURES,
}
CAPABILITIES = ["xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64", ""]

_UNKNOWN_TO_THE_FIRMWARE = """
    bios-vendor bios-version system-manufacturer system-product-name system-version
    system-serial-number baseboard-manufacturer baseboard-product-name baseboard-version
    baseboard-serial-number hp-rombios
"""
BIOS_STRINGS = dict.fromkeys(_UNKNOWN_TO_THE_FIRMWARE.split(), "") | {
    "oem-1": "Xen",
    "oem-2": "MS_VM_CERT/SHA1/bdbeb6e0a816d43fa6d3fe8aaef04c2bad9d3e3d",
}

DRIVERS = """
    qlogic-fastlinq qlogic-qla2xxx qlogic-netxtreme2 intel-e1000e intel-i40e intel-ice intel-igb
    intel-ixgbe broadcom-bnxt-en broadcom-mpt3sas mellanox-mlnxen cisco-enic cisco-fnic chelsio-cxgb
    emulex-lpfc avago-megaraid-sas microsemi-aacraid microsemi-smartpqi dell-mpi3mr realtek-r8125
"""
"""Drivers that come in variants, the last two of them in two."""

PCI_DEVICES = (
    {
        "pci_id": "0000:00:01.0",
        "class_id": "0200",
        "class_name": "Ethernet controller",
        "vendor_id": "8086",
        "vendor_name": "Intel Corporation",
        "device_id": "1521",
        "device_name": "I350 Gigabit Network Connection",
        "driver_name": "igb",
    },
    {
        "pci_id": "0000:00:02.0",
        "class_id": "0180",
        "class_name": "Mass storage controller",
        "vendor_id": "1af4",
        "vendor_name": "Red Hat, Inc.",
        "device_id": "1042",
        "device_name": "Virtio 1.0 block device",
        "driver_name": "virtio-pci",
    },
)
