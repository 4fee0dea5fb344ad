"""The keys in sm_config that protect disks, and what dead hosts leave of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.lab import Lab
from deploy.lab.tests.storing import Disks, disks_of, storage_lab
from deploy.lab.tests.vms import error_of


@pytest.fixture
def client() -> Iterator[Disks]:
    with storage_lab(3) as lab, disks_of(lab) as disks:
        yield disks


@pytest.fixture
def vm(client: Disks) -> str:
    """A VM that runs on h3 with a disk."""
    vm = client.vm()
    client.vbd(vm, client.create(client.shared_storage()))
    client.api.VM.start_on(vm, client.hosts["h3"], False, False)
    return vm


def disk_of(client: Disks, vm: str) -> str:
    return str(client.api.VBD.get_VDI(client.api.VM.get_VBDs(vm)[0]))


def keys(client: Disks, vm: str) -> dict[str, str]:
    config: dict[str, str] = client.api.VDI.get_sm_config(disk_of(client, vm))
    return config


def kill(client: Disks, host: str) -> None:
    client.lab.do(lambda lab: lab.machine(host).power_off())


def violations(client: Disks) -> list[object]:
    return client.lab.do(lambda lab: list(lab.detector.violations))


def test_the_host_that_runs_the_vm_holds_the_disk(client: Disks, vm: str) -> None:
    assert keys(client, vm) == {f"host_{client.hosts['h3']}": "RW"}
    client.api.VM.hard_shutdown(vm)
    assert keys(client, vm) == {}


def test_a_migration_hands_the_disk_over(client: Disks, vm: str) -> None:
    client.api.VM.pool_migrate(vm, client.hosts["h2"], {})
    assert keys(client, vm) == {f"host_{client.hosts['h2']}": "RW"}
    assert violations(client) == []


def test_resetting_the_power_state_leaves_a_dead_hosts_key_that_stops_a_start(
    client: Disks, vm: str
) -> None:
    kill(client, "h3")
    client.lab.clock.set_rate(400.0)
    client.api.VM.power_state_reset(vm)
    assert keys(client, vm) == {f"host_{client.hosts['h3']}": "RW"}
    error = error_of(client.api.VM.start_on, vm, client.hosts["h2"], False, False)
    assert error[0] == "SR_BACKEND_FAILURE_46"
    assert "not detached cleanly" in error[2]
    assert client.state(vm) == "Halted"


def test_declaring_the_host_dead_takes_its_keys_away(client: Disks, vm: str) -> None:
    kill(client, "h3")
    client.lab.clock.set_rate(400.0)
    client.api.host.declare_dead(client.hosts["h3"])
    assert keys(client, vm) == {}
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    assert violations(client) == []


def test_a_leaked_activation_survives_declare_dead_and_is_removed_by_hand(
    client: Disks, vm: str
) -> None:
    vdi = disk_of(client, vm)
    client.api.VDI.add_to_sm_config(vdi, "activating", "True")
    kill(client, "h3")
    client.lab.clock.set_rate(400.0)
    client.api.host.declare_dead(client.hosts["h3"])
    start = (vm, client.hosts["h2"], False, False)
    assert error_of(client.api.VM.start_on, *start)[0] == "SR_BACKEND_FAILURE_46"
    client.api.VDI.remove_from_sm_config(vdi, "activating")
    client.api.VM.start_on(*start)


def test_a_paused_disk_is_waited_for_and_then_refused(client: Disks, vm: str) -> None:
    client.api.VM.hard_shutdown(vm)
    client.api.VDI.add_to_sm_config(disk_of(client, vm), "paused", "1")
    before = client.lab.clock.now()
    error = error_of(client.api.VM.start, vm, False, False)
    assert error[0] == "SR_BACKEND_FAILURE_46"
    assert client.lab.clock.now() - before >= 30.0


def test_a_key_of_a_host_that_answers_and_has_the_disk_closed_is_cleared(
    client: Disks, vm: str
) -> None:
    client.api.VM.hard_shutdown(vm)
    stale = f"host_{client.hosts['h1']}"
    client.api.VDI.add_to_sm_config(disk_of(client, vm), stale, "RW")
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    assert keys(client, vm) == {f"host_{client.hosts['h2']}": "RW"}


def test_a_host_that_comes_back_clears_its_own_keys(client: Disks, vm: str) -> None:
    kill(client, "h3")
    client.lab.do(lambda lab: lab.machine("h3").power_on())
    client.lab.clock.advance(60.0)
    assert keys(client, vm) == {}


def test_starting_a_vm_whose_silent_host_still_runs_it_is_found_out(client: Disks, vm: str) -> None:
    client.lab.do(lambda lab: lab.machine("h3").crash_toolstack())
    client.lab.clock.advance(1000.0)
    client.api.host.declare_dead(client.hosts["h3"])
    client.api.VM.start_on(vm, client.hosts["h2"], False, False)
    kinds = {v.kind for v in client.lab.do(lambda lab: lab.detector.violations)}
    assert kinds == {"vm_runs_twice", "disk_written_twice"}


def test_storage_knows_better_than_an_old_copy_of_the_database(client: Disks) -> None:
    """A new coordinator scans what it has: disks made since are found, destroyed ones go."""
    nfs = client.shared_storage()
    gone = client.create(nfs)
    client.lab.do(lambda lab: lab.coordination.sync())
    made = client.create(nfs)
    client.write(made, 0, b"made")
    uuids = [client.api.VDI.get_uuid(vdi) for vdi in (gone, made)]
    client.api.VDI.destroy(gone)

    def take_over(lab: Lab) -> None:
        lab.machine("h1").power_off()
        lab.spawn(lab.coordination.become_coordinator(lab.machine("h2")))

    client.lab.do(take_over)
    client.lab.clock.advance(120.0)
    known = client.lab.do(lambda lab: lab.db.tables["VDI"].by_uuid.copy())
    assert uuids[0] not in known
    assert client.read(known[uuids[1]], 0, 4) == b"made"
