"""Comparing answers: what must be equal, what may differ, and by which rule."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.lab.replay import rules
from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.names import Names
from deploy.lab.replay.places import Facts, Place

A = "OpaqueRef:aaaaaaaa-0000-0000-0000-000000000000"
B = "OpaqueRef:bbbbbbbb-0000-0000-0000-000000000000"
C = "OpaqueRef:cccccccc-0000-0000-0000-000000000000"


def paths(call: str, expected: Any, got: Any, *, partial: bool = False, **facts: Any) -> list[str]:
    """Where the two differ."""
    comparison = Comparison(Names(), Facts(**facts))
    place = Place(call=call, partial=partial, subject=facts.get("subject", ""))
    return [d.path for d in comparison.result(call, expected, got, place)]


def test_a_changed_a_lacking_and_a_new_field_are_three_differences() -> None:
    expected = {"power_state": "Halted", "domarch": ""}
    assert sorted(paths("VM.get_record", expected, {"power_state": "Running", "new": 1})) == [
        "result.domarch",
        "result.new",
        "result.power_state",
    ]


def test_of_a_partial_record_only_the_kept_fields_are_compared() -> None:
    expected = {"power_state": "Halted"}
    got = {"power_state": "Halted", "domarch": "x64"}
    assert paths("VM.get_record", expected, got, partial=True) == []
    assert paths("VM.get_record", expected, got) == ["result.domarch"]


def test_partial_records_of_a_map_still_need_the_same_keys() -> None:
    call = "VM.get_all_records_where"
    one = {"<VM:1>": {"name_label": "a"}}
    assert paths(call, one, {A: {"name_label": "a", "uuid": "x"}}, partial=True) == []
    assert paths(call, one, {A: {"name_label": "a"}, B: {"name_label": "b"}}, partial=True) != []
    assert paths(call, one, {A: {"name_label": "b"}}, partial=True) != []


def test_wire_types_count() -> None:
    assert paths("VM.get_VCPUs_max", "1", 1) == ["result"]
    assert paths("VM.get_is_a_template", True, "true") == ["result"]
    assert paths("VM.get_HVM_shadow_multiplier", 1.0, 1) == ["result"]


def test_order_matters_only_where_it_means_something() -> None:
    assert paths("VM.get_allowed_operations", ["start", "clone"], ["clone", "start"]) == []
    assert paths("VM.get_tags", ["a", "b"], ["b", "a"]) == []
    assert paths("host.get_supported_bootloaders", ["a", "b"], ["b", "a"]) != []


def test_a_set_with_a_member_twice_is_another_set() -> None:
    assert paths("VM.get_tags", ["a", "b", "a"], ["b", "a", "b"]) != []


def test_new_names_in_sets_are_matched_so_that_all_agrees() -> None:
    expected = {
        "events": [
            {"class": "vm", "operation": "add", "ref": "<VM:1>", "snapshot": {"name_label": "a"}},
            {"class": "vm", "operation": "add", "ref": "<VM:2>", "snapshot": {"name_label": "b"}},
        ],
        "valid_ref_counts": {},
    }
    got = {
        "events": [
            {"class": "vm", "operation": "add", "ref": B, "snapshot": {"name_label": "b"}},
            {"class": "vm", "operation": "add", "ref": A, "snapshot": {"name_label": "a"}},
        ],
        "valid_ref_counts": {},
    }
    names = Names()
    comparison = Comparison(names, Facts(canonical={"vm": "VM"}))
    assert comparison.result("event.from", expected, got, Place(call="event.from")) == []
    assert names.values == {"<VM:1>": A, "<VM:2>": B}


def test_a_set_with_one_member_too_few_or_too_many_differs() -> None:
    assert paths("VM.get_VBDs", ["<VBD:1>", "<VBD:2>"], [A]) == ["result[<VBD:2>]"]
    assert paths("VM.get_VBDs", ["<VBD:1>"], [A, B]) == ["result[]"]


def test_keys_may_be_names() -> None:
    assert paths("VM.get_current_operations", {"<task:1>": "start"}, {A: "start"}) == []
    assert paths("VM.get_current_operations", {"<task:1>": "start"}, {A: "clone"}) != []


@pytest.mark.parametrize(
    ("expected", "got", "agree"),
    [
        (["VM_BAD_POWER_STATE", "<VM:1>", "halted"], ["VM_BAD_POWER_STATE", A, "halted"], True),
        (["VM_BAD_POWER_STATE", "<VM:1>", "halted"], ["VM_BAD_POWER_STATE", A, "paused"], False),
        (["VM_BAD_POWER_STATE", "<VM:1>"], ["VM_IS_TEMPLATE", A], False),
        (["NO_HOSTS_AVAILABLE"], ["NO_HOSTS_AVAILABLE", "x"], False),
        (["INTERNAL_ERROR", "one text"], ["INTERNAL_ERROR", "another"], True),
        (["SR_BACKEND_FAILURE_44", "", "full"], ["SR_BACKEND_FAILURE_46", "", ""], True),
        (["SR_BACKEND_FAILURE_44", "", "full"], ["SR_FULL"], False),
    ],
)
def test_errors_agree_by_code_then_parameters(
    expected: list[str], got: list[str], agree: bool
) -> None:
    assert (Comparison(Names(), Facts()).error(expected, got, "error") == []) is agree


def test_what_is_not_the_daemons_own_is_not_compared() -> None:
    assert paths("VM.get_domid", "7", "8") == []
    assert paths("task.get_record", {"backtrace": "(a)"}, {"backtrace": "()"}) == []
    times = {"agent_start_time": "1.", "other": "1"}
    assert paths("host.get_other_config", times, {"agent_start_time": "2.", "other": "1"}) == []
    assert paths("host.get_other_config", times, {"agent_start_time": "2."}) != []


def test_sizes_agree_up_to_rounding() -> None:
    assert paths("VDI.get_virtual_size", "4194304", "5242880") == []
    assert paths("VDI.get_virtual_size", "4194304", "41943040") != []


def test_the_host_of_a_vm_is_free_only_where_the_pool_chose_it() -> None:
    def check(chosen: set[str]) -> list[Any]:
        facts = Facts(hosts=frozenset([B, C]), placed_at_random=chosen)
        place = Place(call="VM.get_resident_on", subject=A)
        comparison = Comparison(Names({"<host:h1>": B}), facts)
        return comparison.result("VM.get_resident_on", "<host:h1>", C, place)

    assert check({A}) == []
    assert check(set()) != []


def test_members_of_shared_sets_count_only_when_they_have_names() -> None:
    def check(names: Names, got: list[str]) -> list[Any]:
        place = Place(call="SR.get_VDIs")
        comparison = Comparison(names, Facts())
        return comparison.result("SR.get_VDIs", ["<VDI:1>", "<VDI:9>"], got, place)

    known = Names()
    known.bind("<VDI:1>", A)
    assert check(known, [A, C]) == []
    assert check(known, [C]) != []


def test_counts_of_objects_may_be_off_by_the_same_number_throughout() -> None:
    comparison = Comparison(Names(), Facts())
    assert comparison.ref_counts({"vm": 52, "task": 3}, {"vm": 50, "task": 9}, "") == []
    assert comparison.ref_counts({"vm": 53, "task": 3}, {"vm": 51, "task": 1}, "") == []
    assert comparison.ref_counts({"vm": 54, "task": 3}, {"vm": 51, "task": 1}, "") != []


def test_a_tasks_result_is_compared_as_the_value_it_stands_for() -> None:
    expected = (
        "<value><array><data><value><VM:1></value><value><VM:2></value></data></array></value>"
    )
    got = f"<value><array><data><value>{A}</value><value>{B}</value></data></array></value>"
    assert paths("task.get_result", expected, got) == []
    assert paths("task.get_result", expected, got.replace(B, A)) != []
    assert paths("task.get_result", "<value></value>", "") != []


def test_what_waits_and_what_answers_at_once_are_told_apart() -> None:
    assert rules.waits_alike(0.01, lab=0.5, real=0.1)
    assert not rules.waits_alike(0.01, lab=30.0, real=7.0)
    assert rules.waits_alike(0.01, lab=6.0, real=1.5), "a slow machine is not a waiting call"
    assert not rules.waits_alike(20.0, lab=0.1, real=0.1)


def test_every_rule_stands_for_a_sentence() -> None:
    found = rules.all_rules()
    assert len({rule.name for rule in found}) == len(found)
    assert all(len(rule.sentence) > 10 for rule in found)
