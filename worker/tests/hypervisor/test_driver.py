"""What the driver does where a pool is older, slower or emptier than a lab."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import pytest

from worker.hypervisor.port import (
    BootDirect,
    Busy,
    Candidate,
    Gone,
    PoolConnection,
    Refused,
    TaskHandle,
    Unreachable,
    UntranslatedFailure,
    VmSpec,
)
from worker.hypervisor.xapi import connect, read_certificate
from worker.hypervisor.xapi.driver import XapiHypervisor
from worker.hypervisor.xapi.making import vm_fields
from worker.tests.hypervisor.servers import Fault, ScriptedHost

HOST = UUID("11111111-0000-0000-0000-000000000001")
VM = UUID("22222222-0000-0000-0000-000000000001")
SOON = timedelta(seconds=5)


@pytest.fixture
def hypervisor(host: ScriptedHost) -> Iterator[XapiHypervisor]:
    host.answers["host.get_all_records"] = lambda *_: {
        "OpaqueRef:h": {"uuid": str(HOST), "address": "127.0.0.1"}
    }
    host.answers["host.get_by_uuid"] = lambda *_: "OpaqueRef:h"
    candidates = (Candidate(host.address, host.certificate),)
    with ExitStack() as stack:
        made = connect(PoolConnection("test", host.url, "root", "secret", candidates))
        stack.callback(made.close)
        yield made


def fails(*fault: str) -> Callable[..., Any]:
    def answer(*_: object) -> str:
        raise Fault(*fault)

    return answer


def test_an_older_pool_disables_a_host_without_saying_for_how_long(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    def older(session: str, ref: str, *more: object) -> str:
        if more:
            raise Fault("MESSAGE_PARAMETER_COUNT_MISMATCH", "host.disable", "1", "2")
        return ""

    host.answers["host.disable"] = older
    hypervisor.disable_host(HOST)
    assert [len(params) for method, params in host.asked if method == "host.disable"] == [3, 2]


def test_another_failure_to_disable_is_not_taken_for_age(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["host.disable"] = fails("INTERNAL_ERROR", "x")
    with pytest.raises(UntranslatedFailure):
        hypervisor.disable_host(HOST)
    assert host.count("host.disable") == 1


def test_a_reference_that_changed_is_looked_up_again(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    references = iter(["OpaqueRef:old", "OpaqueRef:new"])
    host.answers["host.get_by_uuid"] = lambda *_: next(references)
    host.answers["host.compute_free_memory"] = lambda *_: 1
    hypervisor.free_memory_bytes(HOST)

    def only_new(_: str, ref: str) -> int:
        if ref != "OpaqueRef:new":
            raise Fault("HANDLE_INVALID", "host", ref)
        return 2

    host.answers["host.compute_free_memory"] = only_new
    assert hypervisor.free_memory_bytes(HOST) == 2


def test_an_object_whose_reference_is_still_the_same_is_gone(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["host.compute_free_memory"] = lambda *_: 1
    hypervisor.free_memory_bytes(HOST)
    host.answers["host.compute_free_memory"] = fails("HANDLE_INVALID", "host", "OpaqueRef:h")
    with pytest.raises(Gone):
        hypervisor.free_memory_bytes(HOST)


def test_a_host_we_do_not_know_does_not_answer(hypervisor: XapiHypervisor) -> None:
    assert not hypervisor.host_answers(UUID(int=1), SOON)


def test_a_host_that_refuses_is_alive(host: ScriptedHost, hypervisor: XapiHypervisor) -> None:
    host.answers["pool.get_all_records"] = lambda *_: {}
    with pytest.raises(Gone):
        hypervisor.pool()  # logs in, and so learns who is who
    host.answers["pool.get_all"] = fails("HOST_STILL_BOOTING")
    assert hypervisor.host_answers(HOST, SOON)


def test_an_emergency_is_declared_on_the_host_itself(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["pool.get_all_records"] = lambda *_: {}
    with pytest.raises(Gone):
        hypervisor.pool()
    host.answers["session.slave_local_login_with_password"] = lambda *_: "OpaqueRef:local"
    host.answers["pool.emergency_transition_to_master"] = fails("HA_IS_ENABLED")
    with pytest.raises(Refused) as error:
        hypervisor.emergency_transition_to_master(HOST)
    assert error.value.reason == "ha_enabled"
    assert host.asked[-1] == ("pool.emergency_transition_to_master", ("OpaqueRef:local",))


def test_nobody_to_become_master_is_gone(hypervisor: XapiHypervisor) -> None:
    with pytest.raises(Gone):
        hypervisor.emergency_transition_to_master(UUID(int=1))


def task(status: str, *error_info: str) -> dict[str, Any]:
    return {
        "uuid": str(VM),
        "name_label": "Async.VDI.clone",
        "status": status,
        "progress": 0.5,
        "created": "",
        "finished": "",
        "result": "",
        "error_info": list(error_info),
        "other_config": {},
    }


def test_a_task_that_disappears_while_it_is_awaited_is_gone(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    event = {"class": "task", "operation": "del", "ref": "OpaqueRef:t"}
    host.answers["event.from"] = lambda *_: {"events": [event], "token": "1,0"}
    with pytest.raises(Gone):
        hypervisor.wait(TaskHandle("t"), SOON)


def test_a_task_nobody_speaks_of_is_looked_at(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["event.from"] = lambda *_: {"events": [], "token": "0,0"}
    host.answers["task.get_record"] = lambda *_: task("success")
    host.answers["task.destroy"] = lambda *_: ""
    assert hypervisor.wait(TaskHandle("t"), SOON).status == "success"


def test_a_cancelled_task_is_busy_whatever_it_says(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["event.from"] = lambda *_: {"events": [], "token": "0,0"}
    host.answers["task.get_record"] = lambda *_: task("cancelled")
    host.answers["task.destroy"] = lambda *_: ""
    with pytest.raises(Busy) as error:
        hypervisor.wait(TaskHandle("t"), SOON)
    assert (error.value.reason, error.value.may_have_happened) == ("cancelled", True)


def test_a_vm_is_freed_of_what_keeps_it_before_it_is_destroyed(
    host: ScriptedHost, hypervisor: XapiHypervisor
) -> None:
    host.answers["VM.get_by_uuid"] = lambda *_: "OpaqueRef:v"
    host.answers["VM.get_record"] = lambda *_: {
        "uuid": str(VM),
        "other_config": {"hosting:instance": "i"},
        "blocked_operations": {"destroy": "mine"},
        "is_a_template": True,
        "is_a_snapshot": False,
        "power_state": "Halted",
        "snapshots": ["OpaqueRef:s"],
    }
    changes = ("VM.set_blocked_operations", "VM.set_is_a_template", "VM.destroy")
    for method in changes:
        host.answers[method] = lambda *_: ""
    hypervisor.destroy_vm(VM)
    assert [(m, params[1]) for m, params in host.asked if m in changes] == [
        ("VM.set_blocked_operations", "OpaqueRef:v"),
        ("VM.set_is_a_template", "OpaqueRef:v"),
        ("VM.destroy", "OpaqueRef:s"),
        ("VM.destroy", "OpaqueRef:v"),
    ]


@pytest.mark.parametrize("kind", ["pvh", "pv"])
def test_a_kernel_of_the_host_boots_as_it_is_asked_to(kind: Literal["pvh", "pv"]) -> None:
    kernel = BootDirect("/var/lib/xcp/guest/k", args="console=hvc0", kind=kind)
    fields = vm_fields(VmSpec("n", {}, 1, 1, kernel), "OpaqueRef:NULL")
    assert (fields["domain_type"], fields["PV_kernel"]) == (kind, "/var/lib/xcp/guest/k")
    assert (fields["HVM_boot_policy"], fields["PV_args"]) == ("", "console=hvc0")


def test_a_certificate_of_nobody_cannot_be_read() -> None:
    with pytest.raises(Unreachable):
        read_certificate("https://127.0.0.1:9", timeout=2)


def test_a_candidate_without_a_certificate_is_not_spoken_to(host: ScriptedHost) -> None:
    broken = Candidate(host.address, "no certificate at all")
    hypervisor = connect(PoolConnection("test", host.url, "root", "secret", (broken,)))
    with pytest.raises(Unreachable) as error:
        hypervisor.pool()
    assert error.value.reason == "certificate"
    assert host.connections == 0
