"""The xl backend: what hosts are asked to do, and what becomes of what they tell. Hosts are fake."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.nbd import protocol
from deploy.lab.testing import running_lab
from deploy.lab.tests.fake_xen import FakeXen
from deploy.lab.tests.nbd_client import NbdClient
from deploy.lab.tests.vms import Vms, error_of, vms_of
from deploy.lab.xl import link
from deploy.lab.xl.backend import XlBackend
from deploy.lab.xl.boot import Boot

LIMIT = 20.0


@pytest.fixture(scope="module")
def _pool() -> Iterator[tuple[Vms, FakeXen]]:
    xen = FakeXen(hosts=2)
    backend = partial(XlBackend, hardware=xen, boot=Boot())
    with (
        running_lab(hosts=2, tls=False, rate=20.0, backend=backend, sides=True) as lab,
        vms_of(lab) as vms,
    ):
        yield vms, xen
    xen.close()


@pytest.fixture
def vms(_pool: tuple[Vms, FakeXen]) -> Iterator[Vms]:
    yield _pool[0]
    _pool[0].clear()


@pytest.fixture
def xen(_pool: tuple[Vms, FakeXen]) -> FakeXen:
    xen = _pool[1]
    xen.switched.clear()
    for host in xen.all:
        host.asked.clear()
        host.refuses.clear()
        host.obeys = True
    return xen


def until(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    """What the condition answers, once that is something."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


def uuid_of(vms: Vms, vm: str) -> str:
    return str(vms.api.VM.get_uuid(vm))


def with_disk(vms: Vms, host: str) -> tuple[str, str, str]:
    """A VM that runs on the host with one disk: its reference, its uuid, the disk's uuid."""
    vm = vms.vm()
    vdi = vms.disk(vms.shared_storage())
    vms.give_disk(vm, vdi)
    vms.api.VM.start_on(vm, vms.hosts[host], False, False)
    return vm, uuid_of(vms, vm), str(vms.api.VDI.get_uuid(vdi))


def tagged_network(vms: Vms, vlan: int) -> str:
    """A network that the hosts are on by a VLAN."""
    network = str(vms.api.network.create({"name_label": "n", "other_config": {}}))
    pif = next(
        ref
        for ref, pif in vms.api.PIF.get_all_records().items()
        if pif["physical"] and pif["host"] == vms.hosts["h1"]
    )
    vms.api.pool.create_VLAN_from_PIF(pif, network, str(vlan))
    return network


def until_up(vms: Vms, vm: str) -> None:
    until(lambda: vms.api.VM_guest_metrics.get_other(vms.api.VM.get_guest_metrics(vm)))


def content(vms: Vms, vdi: str, length: int) -> bytes:
    return vms.lab.do(lambda lab: lab.storage.blocks.read(vdi, 0, length))


def write(disk: NbdClient, data: bytes) -> None:
    disk.ask(protocol.Command.WRITE, 0, len(data), data)


# --- starting


def test_a_start_makes_a_domain_with_the_vms_memory_and_processors(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h2", memory=256 << 20, xenstore_data={"vm-data/a": "b", "x": "y"})
    domain = xen.host("h2").domains[uuid_of(vms, vm)]
    assert (domain.wanted["memory_mib"], domain.wanted["vcpus"]) == (256, 1)
    assert domain.wanted["xenstore"] == {"vm-data/a": "b"}
    assert domain.state == "running"
    assert xen.host("h1").domains == {}


def test_a_vm_that_would_boot_from_disk_boots_the_labs_kernel(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    wanted = xen.host("h1").domains[uuid_of(vms, vm)].wanted
    assert (wanted["type"], wanted["kernel"]) == ("pvh", "/boot/guest/vmlinux")
    assert wanted["ramdisk"] == "/boot/guest/initramfs"


@pytest.mark.parametrize("folder", ["/boot/guest", "/var/lib/xcp/guest"])
def test_a_kernel_of_the_vms_own_is_one_of_dom0s(vms: Vms, xen: FakeXen, folder: str) -> None:
    fields = {"HVM_boot_policy": "", "domain_type": "pvh", "PV_args": "a=b"}
    vm = vms.started("h1", PV_kernel=f"{folder}/k", PV_ramdisk=f"{folder}/r", **fields)
    wanted = xen.host("h1").domains[uuid_of(vms, vm)].wanted
    assert (wanted["kernel"], wanted["ramdisk"]) == ("/boot/guest/k", "/boot/guest/r")
    assert wanted["args"] == "a=b"


@pytest.mark.parametrize("path", ["/etc/passwd", "/boot/guest/../../etc/passwd", "/boot/guest/a/b"])
def test_a_kernel_elsewhere_is_refused(vms: Vms, xen: FakeXen, path: str) -> None:
    vm = vms.vm(HVM_boot_policy="", domain_type="pvh", PV_kernel=path)
    answer = error_of(vms.api.VM.start, vm, False, False)
    assert answer == ["INVALID_VALUE", "PV_kernel", path]
    assert vms.state(vm) == "Halted"


def test_a_start_in_pause_leaves_the_domain_paused_until_it_is_let_go(
    vms: Vms, xen: FakeXen
) -> None:
    vm = vms.vm()
    vms.api.VM.start_on(vm, vms.hosts["h1"], True, False)
    domain = xen.host("h1").domains[uuid_of(vms, vm)]
    assert domain.state == "paused"
    vms.api.VM.unpause(vm)
    assert domain.state == "running"
    vms.api.VM.pause(vm)
    assert (domain.state, vms.state(vm)) == ("paused", "Paused")


def test_a_start_that_the_host_refuses_leaves_nothing(vms: Vms, xen: FakeXen) -> None:
    xen.host("h1").refuses["create"] = "xl_failed"
    vm, vdi = vms.vm(), vms.disk(vms.shared_storage())
    vms.give_disk(vm, vdi)
    answer = error_of(vms.api.VM.start_on, vm, vms.hosts["h1"], False, False)
    assert answer == ["INTERNAL_ERROR", "xl: create: xl_failed: xl_failed"]
    assert (vms.state(vm), vms.where(vm)) == ("Halted", "")
    assert xen.host("h1").disks == {}
    assert vms.api.VDI.get_sm_config(vdi) == {}
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)


def test_interfaces_hang_on_their_networks_bridges_and_are_locked_from_the_start(
    vms: Vms, xen: FakeXen
) -> None:
    network = tagged_network(vms, 77)
    vm = vms.vm()
    vif = vms.give_interface(vm, network)
    vms.api.VIF.set_locking_mode(vif, "locked")
    vms.api.VIF.set_ipv4_allowed(vif, ["10.1.2.3"])
    vms.api.VM.start_on(vm, vms.hosts["h1"], False, False)
    bridge = vms.api.network.get_bridge(network)
    assert xen.host("h1").bridges[bridge] == 77
    interface = xen.host("h1").domains[uuid_of(vms, vm)].wanted["vifs"][0]
    assert (interface["bridge"], interface["mac"]) == (bridge, vms.api.VIF.get_MAC(vif))
    assert (interface["locked"], interface["ipv4"]) == (True, ["10.1.2.3"])
    vms.api.VIF.set_ipv4_allowed(vif, ["10.1.2.4"])
    filters = xen.host("h1").filters[uuid_of(vms, vm), 0]
    assert (filters["locked"], filters["ipv4"]) == (True, ["10.1.2.4"])
    vms.api.VIF.set_locking_mode(vif, "unlocked")
    assert xen.host("h1").filters[uuid_of(vms, vm), 0]["locked"] is False
    vms.api.VIF.set_locking_mode(vif, "disabled")
    assert xen.host("h1").filters[uuid_of(vms, vm), 0]["disabled"] is True


# --- what guests tell


def test_a_guest_that_says_what_it_can_may_be_asked_for_it(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    uuid, host = uuid_of(vms, vm), xen.host("h1")
    until(lambda: "clean_shutdown" in vms.api.VM.get_allowed_operations(vm))
    xen.do(lambda: host.write(uuid, "control/feature-poweroff", "0"))
    xen.do(lambda: host.write(uuid, "control/feature-shutdown", "0"))
    until(lambda: "clean_shutdown" not in vms.api.VM.get_allowed_operations(vm))


def test_what_a_guest_writes_into_xenstore_is_seen_through_the_api(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    uuid, host = uuid_of(vms, vm), xen.host("h1")
    xen.do(lambda: host.write(uuid, "vm-data/exit", "3"))
    xen.do(lambda: host.write(uuid, "attr/vif/0/ipv4/0", "10.1.2.3"))
    until(lambda: vms.api.VM.get_xenstore_data(vm).get("vm-data/exit") == "3")

    def metrics() -> Any:
        return vms.api.VM_guest_metrics.get_record(vms.api.VM.get_guest_metrics(vm))

    until(lambda: metrics()["networks"] == {"0/ipv4/0": "10.1.2.3", "0/ip": "10.1.2.3"})
    assert metrics()["PV_drivers_detected"]
    assert metrics()["os_version"] == {"name": "Fake 1"}
    assert metrics()["other"]["feature-poweroff"] == "1"
    xen.do(lambda: host.write(uuid, "vm-data/exit", None))
    until(lambda: "vm-data/exit" not in vms.api.VM.get_xenstore_data(vm))


def test_a_guest_is_not_said_to_be_up_before_all_is_known_that_it_can_do(
    vms: Vms, xen: FakeXen
) -> None:
    vm = vms.vm()
    vms.api.VM.start_on(vm, vms.hosts["h1"], True, False)
    seen: list[dict[str, str]] = []

    def watch(row: Any, change: str) -> None:
        if row.cls == "VM_guest_metrics" and row.fields["PV_drivers_detected"]:
            seen.append(dict(row.fields["other"]))

    vms.lab.do(lambda lab: lab.db.watchers.append(watch))
    vms.api.VM.unpause(vm)
    until(lambda: seen)
    vms.lab.do(lambda lab: lab.db.watchers.remove(watch))
    assert {"feature-poweroff", "feature-reboot", "feature-suspend"} <= seen[0].keys()


def test_the_console_passes_bytes_both_ways(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    host, _, port = vms.lab.urls[0].removeprefix("http://").partition(":")
    session = vms.session._session
    with socket.create_connection((host, int(port)), LIMIT) as connection:
        console = vms.api.VM.get_consoles(vm)[-1]
        line = f"CONNECT /console?ref={console}&session_id={session} HTTP/1.0\r\n\r\n"
        connection.sendall(line.encode())
        shown = b""
        while b"the guest is up" not in shown:
            shown += connection.recv(4096)
        connection.sendall(b"hello")
        while b"echo hello" not in shown:
            shown += connection.recv(4096)


# --- ends


def test_a_clean_shutdown_asks_the_guest_and_waits_for_it(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    until_up(vms, vm)
    vms.api.VM.clean_shutdown(vm)
    assert ("shutdown", {"uuid": uuid, "how": "poweroff"}) in xen.host("h1").asked
    assert (vms.state(vm), xen.host("h1").domains, xen.host("h1").disks) == ("Halted", {}, {})


def test_a_hard_shutdown_destroys_whatever_the_guest_says(vms: Vms, xen: FakeXen) -> None:
    xen.host("h1").obeys = False
    vm, _, _ = with_disk(vms, "h1")
    vms.api.VM.hard_shutdown(vm)
    assert (vms.state(vm), xen.host("h1").domains, xen.host("h1").disks) == ("Halted", {}, {})


def test_a_domain_that_its_host_is_busy_with_is_destroyed_a_little_later(
    vms: Vms, xen: FakeXen
) -> None:
    vm, _, _ = with_disk(vms, "h1")
    xen.host("h1").refuses["destroy"] = "domain_busy"
    vms.api.VM.hard_shutdown(vm)
    assert (vms.state(vm), xen.host("h1").domains) == ("Halted", {})


def test_a_reboot_makes_a_new_domain(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    old = xen.host("h1").domains[uuid]
    vms.api.VM.hard_reboot(vm)
    assert xen.host("h1").domains[uuid] is not old
    assert (vms.state(vm), xen.host("h1").domains[uuid].state) == ("Running", "running")


def test_a_domain_that_ends_by_itself_is_cleared_away(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, vdi = with_disk(vms, "h1")
    xen.do(lambda: xen.host("h1").end(uuid, "poweroff"))
    until(lambda: vms.state(vm) == "Halted")
    assert xen.host("h1").disks == {}
    assert vms.api.VDI.get_sm_config(vms.api.VDI.get_by_uuid(vdi)) == {}


def test_a_domain_that_reboots_by_itself_comes_again(vms: Vms, xen: FakeXen) -> None:
    _, uuid, _ = with_disk(vms, "h1")
    old = xen.host("h1").domains[uuid]
    xen.do(lambda: xen.host("h1").end(uuid, "reboot"))
    until(lambda: xen.host("h1").domains.get(uuid) not in (None, old))
    until(lambda: xen.host("h1").domains[uuid].state == "running")


# --- disks


def test_a_guests_writes_reach_the_labs_disk(vms: Vms, xen: FakeXen) -> None:
    _, uuid, vdi = with_disk(vms, "h1")
    write(xen.host("h1").disk_of(uuid), b"written by the guest")
    assert content(vms, vdi, 20) == b"written by the guest"


def test_a_host_that_has_not_attached_a_disk_does_not_get_it(vms: Vms, xen: FakeXen) -> None:
    _, _, vdi = with_disk(vms, "h1")
    attach = next(args for name, args in xen.host("h1").asked if name == "disk_attach")
    with pytest.raises(PermissionError):
        NbdClient(attach["host"], attach["port"], vdi, source=xen.host("h2").address)
    with pytest.raises(PermissionError):
        NbdClient(attach["host"], attach["port"], vdi)


def test_a_snapshot_of_a_running_vm_keeps_what_was_written_before_it(
    vms: Vms, xen: FakeXen
) -> None:
    vm, uuid, vdi = with_disk(vms, "h1")
    disk = xen.host("h1").disk_of(uuid)
    write(disk, b"before")
    snapshot = vms.api.VM.snapshot(vm, "s")
    write(disk, b"after!")
    kept = next(
        vms.api.VDI.get_uuid(vbd["VDI"])
        for vbd in vms.api.VBD.get_all_records().values()
        if vbd["VM"] == snapshot
    )
    assert (content(vms, kept, 6), content(vms, vdi, 6)) == (b"before", b"after!")
    vms.api.VM.destroy(snapshot)


def test_a_host_whose_locks_were_taken_away_writes_no_more(vms: Vms, xen: FakeXen) -> None:
    _, uuid, vdi = with_disk(vms, "h1")
    disk = xen.host("h1").disk_of(uuid)
    write(disk, b"mine")
    vms.lab.do(lambda lab: _reset(lab, "h1"))
    with pytest.raises((PermissionError, ConnectionError)):
        write(disk, b"late")
    assert content(vms, vdi, 4) == b"mine"


def _reset(lab: Any, host: str) -> None:
    from deploy.lab import disk_locks

    disk_locks.reset_locks(lab, lab.machine(host).host)


# --- moving


def test_a_domain_moves_and_the_right_to_write_moves_with_it(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, vdi = with_disk(vms, "h1")
    domain = xen.host("h1").domains[uuid]
    until_up(vms, vm)
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {"live": "true"})
    assert vms.where(vm) == "h2"
    assert xen.host("h2").domains == {uuid: domain}
    assert xen.host("h1").disks == {}
    assert xen.switched == [("written", "Operation not permitted")]
    assert content(vms, vdi, 6) == b"target"
    write(xen.host("h2").disk_of(uuid), b"more")
    assert content(vms, vdi, 4) == b"more"
    xen.do(lambda: xen.host("h2").end(uuid, "poweroff"))
    until(lambda: vms.state(vm) == "Halted")


def test_a_move_that_fails_leaves_the_domain_where_it_was_with_its_disk(
    vms: Vms, xen: FakeXen
) -> None:
    vm, uuid, vdi = with_disk(vms, "h1")
    until_up(vms, vm)
    xen.host("h1").refuses["migrate"] = "xl_failed"
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {})
    assert answer[0] == "VM_MIGRATE_FAILED"
    assert (vms.where(vm), vms.state(vm)) == ("h1", "Running")
    assert xen.host("h2").disks == {}
    write(xen.host("h1").disk_of(uuid), b"goes on")
    assert content(vms, vdi, 7) == b"goes on"


def test_a_suspended_vm_has_no_domain_and_comes_back_with_it(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    domain = xen.host("h1").domains[uuid]
    until_up(vms, vm)
    vms.api.VM.suspend(vm)
    assert (vms.state(vm), xen.host("h1").domains, xen.host("h1").disks) == ("Suspended", {}, {})
    vms.api.VM.resume_on(vm, vms.hosts["h2"], False, False)
    assert xen.host("h2").domains == {uuid: domain}
    assert domain.state == "running"


def test_a_checkpoint_keeps_memory_and_the_vm_goes_on(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, vdi = with_disk(vms, "h1")
    until_up(vms, vm)
    checkpoint = vms.api.VM.checkpoint(vm, "c")
    assert (vms.state(vm), xen.host("h1").domains[uuid].state) == ("Running", "running")
    image = vms.api.VDI.get_uuid(vms.api.VM.get_suspend_VDI(checkpoint))
    assert content(vms, image, 46) == b"memory of " + uuid.encode()
    write(xen.host("h1").disk_of(uuid), b"after")
    assert content(vms, vdi, 5) == b"after"
    vms.api.VM.destroy(checkpoint)


# --- plugging


def plugged(vms: Vms, vm: str, device: str = "1") -> tuple[str, str]:
    """A disk that the running VM is given: its VBD and its uuid."""
    vdi = vms.disk(vms.shared_storage())
    vbd = vms.give_disk(vm, vdi, userdevice=device)
    vms.api.VBD.plug(vbd)
    return vbd, str(vms.api.VDI.get_uuid(vdi))


def test_a_disk_that_is_plugged_is_the_domains_and_open_on_its_host_alone(
    vms: Vms, xen: FakeXen
) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    until_up(vms, vm)
    _, vdi = plugged(vms, vm)
    wanted = xen.host("h1").domains[uuid].wanted["disks"][1]
    assert wanted == {"device": 1, "vdi": vdi, "read_only": False}
    write(xen.host("h1").disks[vdi], b"plugged")
    assert content(vms, vdi, 7) == b"plugged"
    vms.api.VM.hard_shutdown(vm)
    assert xen.host("h1").disks == {}


def test_an_unplugged_disk_is_the_hosts_no_more(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, first = with_disk(vms, "h1")
    until_up(vms, vm)
    vbd, vdi = plugged(vms, vm)
    disk = xen.host("h1").disks[vdi]
    vms.api.VBD.unplug(vbd)
    assert list(xen.host("h1").disks) == [first]
    assert [one["vdi"] for one in xen.host("h1").domains[uuid].wanted["disks"]] == [first]
    with pytest.raises(OSError, match=r"."):
        write(disk, b"late")


def test_a_disk_that_another_vm_has_is_not_plugged(vms: Vms, xen: FakeXen) -> None:
    vm, _, _ = with_disk(vms, "h1")
    until_up(vms, vm)
    other = vms.started("h2")
    until_up(vms, other)
    vdi = vms.disk(vms.shared_storage())
    vms.api.VBD.plug(vms.give_disk(vm, vdi, userdevice="1"))
    refused = vms.give_disk(other, vdi, userdevice="1")
    assert error_of(vms.api.VBD.plug, refused)[0] == "VDI_IN_USE"
    assert xen.host("h2").disks == {}


def test_a_disk_that_cannot_be_plugged_is_let_go(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    until_up(vms, vm)
    vdi = vms.disk(vms.shared_storage())
    vbd = vms.give_disk(vm, vdi, userdevice="1")
    xen.host("h1").refuses["plug"] = "device_failed"
    assert error_of(vms.api.VBD.plug, vbd)[0] == "INTERNAL_ERROR"
    assert xen.host("h1").disks == {}
    vms.api.VBD.plug(vbd)
    assert list(xen.host("h1").disks) == [str(vms.api.VDI.get_uuid(vdi))]


def test_a_disk_that_the_guest_keeps_stays_plugged(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    until_up(vms, vm)
    vbd, vdi = plugged(vms, vm)
    xen.host("h1").refuses["unplug"] = "device_in_use"
    assert error_of(vms.api.VBD.unplug, vbd)[:3] == ["DEVICE_DETACH_REJECTED", "VBD", vbd]
    assert vms.api.VBD.get_currently_attached(vbd)
    assert list(xen.host("h1").disks) == [vdi]


def test_an_interface_is_plugged_with_its_locking_on_a_bridge_that_is_made(
    vms: Vms, xen: FakeXen
) -> None:
    vm = vms.started("h1")
    until_up(vms, vm)
    pif = vms.api.host.get_PIFs(vms.hosts["h1"])[0]
    vif = vms.give_interface(vm, vms.api.PIF.get_network(pif))
    vms.api.VIF.set_locking_mode(vif, "locked")
    vms.api.VIF.set_ipv4_allowed(vif, ["10.0.0.7"])
    vms.api.VIF.plug(vif)
    (wanted,) = xen.host("h1").domains[uuid_of(vms, vm)].wanted["vifs"]
    assert (wanted["locked"], wanted["ipv4"]) == (True, ["10.0.0.7"])
    vms.api.VIF.unplug(vif)
    assert xen.host("h1").domains[uuid_of(vms, vm)].wanted["vifs"] == []


@pytest.mark.parametrize("paused", [False, True])
def test_an_interface_that_moves_hangs_on_a_bridge_that_is_made_with_the_networks_locking(
    vms: Vms, xen: FakeXen, paused: bool
) -> None:
    first, second = tagged_network(vms, 81 + 2 * paused), tagged_network(vms, 82 + 2 * paused)
    vms.api.network.set_default_locking_mode(second, "disabled")
    vm = vms.vm()
    vif = vms.give_interface(vm, first)
    vms.api.VM.start_on(vm, vms.hosts["h1"], paused, False)
    vms.api.VIF.move(vif, second)
    (wanted,) = xen.host("h1").domains[uuid_of(vms, vm)].wanted["vifs"]
    assert wanted["bridge"] == vms.api.network.get_bridge(second)
    assert xen.host("h1").bridges[wanted["bridge"]] == 82 + 2 * paused
    assert wanted["disabled"] is True
    assert vms.api.VIF.get_network(vif) == second


@pytest.mark.parametrize("refused", ["bridge", "vif_move"])
def test_an_interface_that_the_host_does_not_move_stays_where_it_was(
    vms: Vms, xen: FakeXen, refused: str
) -> None:
    first = vms.api.network.create({"name_label": "n", "other_config": {}})
    second = vms.api.network.create({"name_label": "n", "other_config": {}})
    vm = vms.vm()
    vif = vms.give_interface(vm, first)
    vms.api.VM.start_on(vm, vms.hosts["h1"], False, False)
    xen.host("h1").refuses[refused] = "no_such_bridge"
    assert error_of(vms.api.VIF.move, vif, second)[0] == "INTERNAL_ERROR"
    assert vms.api.VIF.get_network(vif) == first
    (wanted,) = xen.host("h1").domains[uuid_of(vms, vm)].wanted["vifs"]
    assert wanted["bridge"] == vms.api.network.get_bridge(first)


def test_a_vm_that_moves_takes_its_interface_to_where_that_was_moved(
    vms: Vms, xen: FakeXen
) -> None:
    first, second = tagged_network(vms, 91), tagged_network(vms, 92)
    vm, bridge = vms.vm(), vms.api.network.get_bridge(second)
    vif = vms.give_interface(vm, first)
    vms.api.VM.start_on(vm, vms.hosts["h1"], False, False)
    until_up(vms, vm)
    vms.api.VIF.move(vif, second)
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {"live": "true"})
    told = [args for name, args in xen.host("h2").asked if name == "receive"]
    assert [vif["bridge"] for vif in told[0]["vifs"]] == [bridge]
    assert xen.host("h2").bridges[bridge] == 92


def test_a_vm_moves_with_what_is_plugged_and_nothing_else(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, first = with_disk(vms, "h1")
    until_up(vms, vm)
    _, second = plugged(vms, vm)
    vms.give_disk(vm, vms.disk(vms.shared_storage()), userdevice="2")
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {"live": "true"})
    assert sorted(xen.host("h2").disks) == sorted([first, second])
    assert xen.host("h1").disks == {}
    assert uuid in xen.host("h2").domains


def test_a_vm_without_disks_boots_with_its_own_arguments_and_says_that_it_waits(
    vms: Vms, xen: FakeXen
) -> None:
    boot = {"PV_kernel": "/boot/guest/vmlinux", "PV_args": "quiet bulkhead.blank"}
    vm = vms.started("h1", HVM_boot_policy="", domain_type="pvh", **boot)
    uuid = uuid_of(vms, vm)
    wanted = xen.host("h1").domains[uuid].wanted
    assert (wanted["args"], wanted["disks"]) == ("quiet bulkhead.blank", [])
    xen.do(lambda: xen.host("h1").write(uuid, "vm-data/blank", "1"))
    until(lambda: vms.api.VM.get_xenstore_data(vm).get("vm-data/blank") == "1")


# --- hosts


def test_a_host_without_power_writes_nothing_and_comes_back_empty(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, vdi = with_disk(vms, "h2")
    disk = xen.host("h2").disk_of(uuid)
    vms.lab.wait(_cut(vms, "h2"))
    with pytest.raises(OSError, match=r"."):
        write(disk, b"late")
    assert content(vms, vdi, 4) == bytes(4)
    vms.lab.do(lambda lab: lab.machine("h2").power_on())
    until(lambda: vms.state(vm) == "Halted")
    until(lambda: vms.api.host.get_enabled(vms.hosts["h2"]))
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)
    assert uuid in xen.host("h2").domains


def test_a_host_that_dies_by_itself_is_without_power_in_the_pool_too(
    vms: Vms, xen: FakeXen
) -> None:
    vm, uuid, vdi = with_disk(vms, "h2")
    # As with a real machine, nothing ends its connections: they only fall silent.
    xen.do(xen.host("h2").vanish)
    until(lambda: not vms.lab.do(lambda lab: lab.machine("h2").powered))
    assert vms.lab.do(lambda lab: lab.storage.attachments.writers(vdi)) == set()
    assert vms.lab.do(lambda lab: lab.machine("h2").domains) == {}
    vms.lab.do(lambda lab: lab.machine("h2").power_on())
    until(lambda: vms.state(vm) == "Halted")
    until(lambda: vms.api.host.get_enabled(vms.hosts["h2"]))
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)
    assert uuid in xen.host("h2").domains


def test_a_host_that_is_being_turned_off_is_not_turned_off_once_more(
    vms: Vms, xen: FakeXen
) -> None:
    xen.cuts.clear()
    xen.off_at_once.clear()
    work = asyncio.run_coroutine_threadsafe(_cut(vms, "h2"), vms.lab._loop)
    until(lambda: xen.cuts)
    with pytest.raises(AssertionError):
        until(lambda: len(xen.cuts) > 1, limit=4 * link.AGAIN)
    xen.off_at_once.set()
    work.result(LIMIT)
    vms.lab.do(lambda lab: lab.machine("h2").power_on())
    until(lambda: vms.lab.do(lambda lab: lab.machine("h2").toolstack))
    assert xen.cuts == [2]


async def _cut(vms: Vms, host: str) -> None:
    await vms.lab.lab.power.cut(vms.lab.lab.machine(host))


def test_an_agent_that_starts_again_is_met_again_and_its_domains_live_on(
    vms: Vms, xen: FakeXen
) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    domain, host = xen.host("h1").domains[uuid], xen.host("h1")
    host.asked.clear()
    xen.do(host.lose_connections)
    until(lambda: any(name == "hello" for name, _ in list(host.asked)))
    until(lambda: not error_or_none(vms, vm))
    assert host.domains[uuid] is domain
    assert vms.state(vm) == "Paused"


def error_or_none(vms: Vms, vm: str) -> list[str] | None:
    if vms.state(vm) == "Paused":
        return None
    try:
        return error_of(vms.api.VM.pause, vm)
    except AssertionError:
        return None


def test_a_domain_that_went_while_nobody_looked_is_noticed(vms: Vms, xen: FakeXen) -> None:
    vm, uuid, _ = with_disk(vms, "h1")
    host = xen.host("h1")

    def vanish() -> None:
        del host.domains[uuid]
        host.lose_connections()

    xen.do(vanish)
    until(lambda: vms.state(vm) == "Halted")


def test_a_domain_that_nobody_knows_is_destroyed(vms: Vms, xen: FakeXen) -> None:
    host = xen.host("h1")
    stranger = "11111111-2222-3333-4444-555555555555"

    def appear() -> None:
        from deploy.lab.tests.fake_xen import FakeDomain

        host.domains[stranger] = FakeDomain(stranger, {"disks": [], "memory_mib": 1, "vcpus": 1})
        host.lose_connections()

    xen.do(appear)
    until(lambda: stranger not in host.domains)


def test_what_hosts_measure_is_asked_for_as_data_sources(vms: Vms, xen: FakeXen) -> None:
    vm = vms.started("h1")
    found = until(lambda: vms.api.VM.get_data_sources(vm))
    assert {"memory", "cpu0"} <= {source["name_label"] for source in found}
    assert vms.api.VM.query_data_source(vm, "memory") == 256 << 20


def test_a_lab_that_starts_again_finds_its_domains_running(tmp_path: Path) -> None:
    xen = FakeXen(hosts=2)
    options: dict[str, Any] = {
        "hosts": 2,
        "tls": False,
        "backend": partial(XlBackend, hardware=xen, boot=Boot()),
        "state": tmp_path / "lab.state",
    }
    with running_lab(**options) as lab, vms_of(lab) as vms:
        vm, uuid, vdi = with_disk(vms, "h1")
        gone = vms.started("h2")
        write(xen.host("h1").disk_of(uuid), b"kept")
        domain = xen.host("h1").domains[uuid]
        ended = uuid_of(vms, gone)
        addresses = [machine.address for machine in lab.lab.machines.values()]
    xen.do(lambda: xen.host("h2").end(ended, "poweroff"))
    with running_lab(**options, addresses=addresses) as lab, vms_of(lab) as vms:
        assert xen.host("h1").domains == {uuid: domain}
        assert (vms.state(vm), vms.where(vm)) == ("Running", "h1")
        until(lambda: vms.state(gone) == "Halted")
        assert content(vms, vdi, 4) == b"kept"
        vms.api.VM.hard_shutdown(vm)
        assert xen.host("h1").domains == {}
    xen.close()
