from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.xenlab.agent import spec
from deploy.xenlab.agent.errors import AgentError

UUID = "0f6a2c5e-7d3b-4b52-9a41-5f2f6a1f0c11"
VIF: dict[str, Any] = {
    "device": 0,
    "mac": "00:16:3E:00:00:01",
    "bridge": "xenbr0",
    "locked": True,
    "ipv4": ["10.1.2.3"],
    "ipv6": ["FD00::3"],
}
DOMAIN: dict[str, Any] = {
    "uuid": UUID,
    "memory_mib": 96,
    "vcpus": 1,
    "type": "pvh",
    "kernel": "/boot/guest/vmlinux",
    "disks": [{"device": 2, "vdi": "scratch", "read_only": False}],
    "vifs": [VIF],
}


def test_a_configuration_names_disks_by_their_device_and_quotes_what_a_client_said() -> None:
    wanted = spec.domain_of({**DOMAIN, "args": 'quiet say="a\\b"'})
    text = spec.configuration(wanted, lambda vdi: f"/dev/bulkhead/{vdi}")
    assert 'cmdline = "noreplace-smp quiet say=\\"a\\\\b\\""\n' in text
    assert (
        'disk = [ "format=raw,vdev=xvdc,access=rw,script=/usr/bin/true,'
        'target=/dev/bulkhead/scratch" ]\n' in text
    )
    assert 'vif = [ "devid=0,mac=00:16:3e:00:00:01,bridge=xenbr0,script=/usr/bin/true" ]\n' in text
    assert "ramdisk" not in text


def test_a_guest_does_not_rewrite_its_kernel_in_an_emulated_machine() -> None:
    assert spec.domain_of(DOMAIN).arguments == "noreplace-smp"
    told = spec.domain_of({**DOMAIN, "args": "quiet -- single"}).arguments
    assert told == "noreplace-smp quiet -- single"


def test_what_a_domain_is_made_of_survives_being_written_down() -> None:
    devices = spec.devices_of(DOMAIN)
    assert spec.devices_of(json.loads(devices.to_json())) == devices


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"uuid": "../../etc"}, "uuid"),
        ({"type": "hvm"}, "type"),
        ({"memory_mib": 0}, "memory_mib"),
        ({"memory_mib": True}, "memory_mib"),
        ({"args": 'quiet"\nkernel = "/etc/shadow'}, "args"),
        ({"disks": [{"device": 0, "vdi": "a/../b"}]}, "vdi"),
        ({"vifs": [{**VIF, "mac": "01:00:5e:00:00:01"}]}, "mac"),
        ({"vifs": [{**VIF, "bridge": "vif1.0"}]}, "bridge"),
        ({"vifs": [{**VIF, "bridge": "a,script=/bin/sh"}]}, "bridge"),
        ({"vifs": [{**VIF, "ipv4": ["10.1.2.0/24"]}]}, "ipv4"),
        ({"vifs": [{**VIF, "ipv4": ["fd00::3"]}]}, "ipv4"),
        ({"vifs": [{**VIF, "ipv6": ["fe80::1%eth0"]}]}, "ipv6"),
        ({"xenstore": {"device/vif/0/mac": "x"}}, "path"),
        ({"xenstore": {"vm-data/../../0/x": "x"}}, "path"),
    ],
)
def test_bad_arguments_are_refused_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(AgentError) as refused:
        spec.domain_of({**DOMAIN, **change})
    assert refused.value.code == "bad_argument"
    assert f"`{name}`" in str(refused.value)
