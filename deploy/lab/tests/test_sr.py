from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB
from deploy.lab.tests.storing import Disks, disks_of, storage_lab
from deploy.lab.tests.vms import error_of


@pytest.fixture(scope="module")
def client() -> Iterator[Disks]:
    with storage_lab(2) as lab, disks_of(lab) as disks:
        yield disks


@pytest.fixture
def sr(client: Disks) -> str:
    ref: str = client.api.SR.create(
        client.hosts["h1"], {"server": "x"}, str(GIB), "made", "", "nfs", "user", True, {}
    )
    return ref


def unplug_all(client: Disks, sr: str) -> None:
    for pbd in client.api.SR.get_PBDs(sr):
        client.api.PBD.unplug(pbd)


def test_a_shared_sr_is_plugged_on_every_host(client: Disks, sr: str) -> None:
    pbds = [client.api.PBD.get_record(pbd) for pbd in client.api.SR.get_PBDs(sr)]
    assert {pbd["host"] for pbd in pbds} == set(client.hosts.values())
    assert all(pbd["currently_attached"] for pbd in pbds)


def test_a_local_sr_is_plugged_on_its_host_alone(client: Disks) -> None:
    host = client.hosts["h2"]
    sr = client.api.SR.create(host, {}, str(GIB), "l", "", "ext", "user", False, {})
    (pbd,) = client.api.SR.get_PBDs(sr)
    assert client.api.PBD.get_host(pbd) == host


def test_a_type_without_a_driver_is_unknown(client: Disks) -> None:
    call, host = client.api.SR.create, client.hosts["h1"]
    error = error_of(call, host, {}, "0", "x", "", "nosuchtype", "user", False, {})
    assert error == ["SR_UNKNOWN_DRIVER", "nosuchtype"]


def test_a_failed_creation_leaves_nothing(client: Disks) -> None:
    config = {"fail_sr_create": "73"}
    call, host = client.api.SR.create, client.hosts["h1"]
    error = error_of(call, host, config, "0", "gone", "", "nfs", "user", True, {})
    assert error[0] == "SR_BACKEND_FAILURE_73"
    assert client.api.SR.get_by_name_label("gone") == []


def test_plugged_storage_is_neither_destroyed_nor_forgotten(client: Disks, sr: str) -> None:
    assert error_of(client.api.SR.destroy, sr) == ["SR_HAS_PBD", sr]
    assert error_of(client.api.SR.forget, sr) == ["SR_HAS_PBD", sr]


def test_storage_with_disks_is_not_destroyed(client: Disks, sr: str) -> None:
    client.create(sr)
    unplug_all(client, sr)
    assert error_of(client.api.SR.destroy, sr) == ["SR_NOT_EMPTY"]


def test_unplugged_storage_does_nothing(client: Disks, sr: str) -> None:
    unplug_all(client, sr)
    assert error_of(client.create, sr) == ["SR_HAS_NO_PBDS", sr]
    assert error_of(client.api.SR.scan, sr) == ["SR_HAS_NO_PBDS", sr]


def test_forgotten_storage_shows_its_disks_when_it_is_introduced_again(
    client: Disks, sr: str
) -> None:
    vdi = client.create(sr)
    client.write(vdi, 0, b"kept")
    disk, uuid = client.api.VDI.get_uuid(vdi), client.api.SR.get_uuid(sr)
    unplug_all(client, sr)
    client.api.SR.forget(sr)
    again = client.api.SR.introduce(uuid, "again", "", "nfs", "user", True, {})
    record = {"host": client.hosts["h1"], "SR": again, "device_config": {}}
    client.api.PBD.plug(client.api.PBD.create(record))
    client.api.SR.scan(again)
    assert client.read(client.api.VDI.get_by_uuid(disk), 0, 4) == b"kept"


def test_an_sr_is_introduced_once(client: Disks, sr: str) -> None:
    uuid = client.api.SR.get_uuid(sr)
    error = error_of(client.api.SR.introduce, uuid, "x", "", "nfs", "user", True, {})
    assert error == ["SR_UUID_EXISTS", uuid]


def test_a_host_is_connected_once(client: Disks, sr: str) -> None:
    pbd = client.api.SR.get_PBDs(sr)[0]
    host = client.api.PBD.get_host(pbd)
    record = {"host": host, "SR": sr, "device_config": {}}
    assert error_of(client.api.PBD.create, record) == ["PBD_EXISTS", sr, host, pbd]


def test_plugging_what_is_plugged_is_no_error(client: Disks, sr: str) -> None:
    client.api.PBD.plug(client.api.SR.get_PBDs(sr)[0])


def test_storage_with_a_disk_in_use_is_not_unplugged(client: Disks, sr: str) -> None:
    vm, vdi = client.vm(), client.create(sr)
    client.vbd(vm, vdi)
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    used = next(
        pbd
        for pbd in client.api.SR.get_PBDs(sr)
        if client.api.PBD.get_host(pbd) == client.hosts["h2"]
    )
    assert error_of(client.api.PBD.unplug, used) == ["VDI_IN_USE", vdi]
    client.clear()


def test_a_plugged_pbd_is_not_destroyed(client: Disks, sr: str) -> None:
    error = ["OPERATION_NOT_ALLOWED", "PBD is currently attached"]
    assert error_of(client.api.PBD.destroy, client.api.SR.get_PBDs(sr)[0]) == error


def test_local_storage_can_be_called_shared(client: Disks) -> None:
    local = client.local_storage("h2")
    client.api.SR.set_shared(local, True)
    assert client.api.SR.get_shared(local)
    client.api.SR.set_shared(local, False)


def test_only_storage_that_every_host_sees_can_hold_the_statefile(client: Disks, sr: str) -> None:
    client.api.SR.assert_can_host_ha_statefile(sr)
    local = client.local_storage("h1")
    error = ["SR_HAS_NO_PBDS", local]
    assert error_of(client.api.SR.assert_can_host_ha_statefile, local) == error
