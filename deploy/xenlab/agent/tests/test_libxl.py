from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.xenlab.agent import libxl
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.spec import Disk, Vif

UUID = "0f6a2c5e-7d3b-4b52-9a41-5f2f6a1f0c11"
VIF = Vif(1, "00:16:3e:00:00:01", "xenbr0", True, ("10.1.2.3",), (), 1000)
DISK = Disk(2, "scratch", False)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A domain's configuration as libxl leaves it: with a NUL, without lists that are empty."""
    monkeypatch.setattr(libxl, "USERDATA", tmp_path)
    file = tmp_path / f"userdata-d.7.{UUID}.libxl-json"
    file.write_bytes(b'{"c_info": {"type": "pvh"}}\0')
    return file


def test_a_guest_owns_its_frontend_and_nothing_else_of_a_device() -> None:
    own = [n.path for n in libxl.of_vif(VIF).nodes(7) if n.permissions[:1] == ("n7",)]
    assert own == ["/local/domain/7/device/vif/1"]


def test_a_disk_that_is_plugged_needs_no_script() -> None:
    disk = libxl.of_disk(DISK, "/dev/null")
    backend = {node.path: node.values for node in disk.nodes(7)}[
        "/local/domain/0/backend/vbd/7/51744"
    ]
    assert backend["hotplug-status"] == "connected"
    assert backend["physical-device"] == "1:3"
    assert backend["mode"] == "w"


def test_a_limited_interface_is_limited_as_xl_would_have_it() -> None:
    assert libxl.of_vif(VIF).told["rate"] == "50000,50000"


def test_devices_come_into_and_out_of_what_libxl_knows(kept: Path) -> None:
    libxl.add(7, UUID, [libxl.of_disk(DISK, "/dev/null"), libxl.of_vif(VIF)])
    known = json.loads(kept.read_bytes().rstrip(b"\0"))
    assert known["c_info"] == {"type": "pvh"}
    assert [disk["vdev"] for disk in known["disks"]] == ["xvdc"]
    assert [nic["devid"] for nic in known["nics"]] == [1]
    libxl.remove(7, UUID, [DISK], [VIF])
    known = json.loads(kept.read_bytes().rstrip(b"\0"))
    assert known["disks"] == known["nics"] == []
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]


def test_a_domain_that_libxl_does_not_know_gets_no_device(kept: Path) -> None:
    with pytest.raises(AgentError, match="libxl keeps none"):
        libxl.add(8, UUID, [libxl.of_vif(VIF)])
