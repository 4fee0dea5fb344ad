"""Secrets, roles, subjects, virtual TPMs, blobs, consoles: what little there is to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.networking import refusal
from deploy.lab.tests.vms import Vms, vms_of


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(1, tls=False) as lab, vms_of(lab) as client:
        yield client


@pytest.fixture
def api(vms: Vms) -> Any:
    return vms.api


def test_a_secret_keeps_its_value_and_a_uuid_of_its_own(api: Any) -> None:
    secret = api.secret.create({"value": "x", "other_config": {}})
    api.secret.set_value(secret, "y")
    assert api.secret.get_value(secret) == "y"
    uuid = api.secret.get_uuid(secret)
    refused = refusal(lambda: api.secret.introduce(uuid, "z", {}))
    assert refused == ["DB_UNIQUENESS_CONSTRAINT_VIOLATION", "secret", "uuid", uuid]


def test_a_role_has_permissions_and_a_permission_has_roles(api: Any) -> None:
    (operator,) = api.role.get_by_name_label("vm-operator")
    assert "VM.start" in api.role.get_permissions_name_label(operator)
    assert operator in api.role.get_by_permission_name_label("VM.start")
    assert api.role.get_by_permission_name_label("no such permission") == []


def test_the_table_of_roles_knows_two_expressions_by_their_text(api: Any) -> None:
    everything = api.role.get_all_records_where("true")
    composite = api.role.get_all_records_where("subroles<>[]")
    assert {record["name_label"] for record in composite.values()} >= {"pool-admin", "read-only"}
    assert len(composite) + len(api.role.get_all_records_where("subroles=[]")) == len(everything)


def test_there_are_no_subjects_without_a_directory(api: Any) -> None:
    record = {"subject_identifier": "u", "other_config": {}}
    assert refusal(lambda: api.subject.create(record)) == ["AUTH_IS_DISABLED"]
    assert refusal(lambda: api.auth.get_subject_identifier("u")) == ["AUTH_IS_DISABLED"]


def test_a_halted_vm_takes_one_virtual_tpm(vms: Vms, api: Any) -> None:
    vm = vms.vm()
    tpm = api.VTPM.create(vm, False)
    assert refusal(lambda: api.VTPM.create(vm, False)) == ["VTPM_MAX_AMOUNT_REACHED", "1"]
    assert "create_vtpm" not in api.VM.get_allowed_operations(vm)
    api.VTPM.destroy(tpm)
    assert api.VM.get_VTPMs(vm) == []


def test_a_destroyed_blob_leaves_its_vm(vms: Vms, api: Any) -> None:
    vm = vms.vm()
    blob = api.VM.create_new_blob(vm, "icon", "", False)
    assert api.blob.get_record(blob)["mime_type"] == "application/octet-stream"
    api.blob.destroy(blob)
    assert api.VM.get_blobs(vm) == {}


def test_consoles_are_made_by_the_daemon_alone(api: Any) -> None:
    refused = refusal(lambda: api.console.create({"other_config": {}}))
    assert refused == ["NOT_IMPLEMENTED", "Console.create"]


def test_a_group_leaves_its_vms_when_it_is_destroyed(vms: Vms, api: Any) -> None:
    vm = vms.vm()
    group = api.VM_group.create(
        {"name_label": "g", "name_description": "", "placement": "anti_affinity"}
    )
    api.VM.set_groups(vm, [group])
    assert api.VM_group.get_VMs(group) == [vm]
    assert refusal(lambda: api.VM.set_groups(vm, [group, group])) == ["TOO_MANY_GROUPS"]
    api.VM_group.destroy(group)
    assert api.VM.get_groups(vm) == []


def test_what_is_not_served_still_says_when_the_object_does_not_exist(api: Any) -> None:
    refused = refusal(lambda: api.pool_patch.apply("OpaqueRef:x", "OpaqueRef:y"))
    assert refused == ["HANDLE_INVALID", "pool_patch", "OpaqueRef:x"]


def test_a_vm_of_an_appliance_is_recovered_with_it_only(vms: Vms, api: Any) -> None:
    vm = vms.vm()
    appliance = api.VM_appliance.create({"name_label": "a", "name_description": ""})
    api.VM.set_appliance(vm, appliance)
    refused = refusal(lambda: api.VM.recover(vm, "OpaqueRef:NULL", False))
    assert refused == ["VM_IS_PART_OF_AN_APPLIANCE", vm, appliance]


def test_the_host_of_a_vm_has_no_plugins(vms: Vms, api: Any) -> None:
    refused = refusal(lambda: api.VM.call_host_plugin(vms.vm(), "p", "f", {}))
    assert refused == ["XENAPI_MISSING_PLUGIN", "p"]


def test_records_alone_can_be_introduced(api: Any) -> None:
    network = api.network.pool_introduce("n", "", "1500", {}, "br9", True, [])
    assert api.network.get_bridge(network) == "br9"
    pif = api.PIF.get_all()[0]
    vlan = api.VLAN.pool_introduce(pif, pif, "7", {})
    assert api.VLAN.get_tag(vlan) == "7"


@pytest.mark.parametrize("cls", ["GPU_group", "USB_group"])
def test_groups_of_devices_can_be_empty(api: Any, cls: str) -> None:
    groups = getattr(api, cls)
    group = groups.create("g", "", {"a": "b"})
    assert groups.get_name_label(group) == "g"
    groups.destroy(group)
    assert groups.get_all() == []
