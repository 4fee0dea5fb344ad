"""Names in recordings: what they bind to and what they refuse."""

from __future__ import annotations

import pytest

from deploy.lab.replay.names import Names, Unbound, kind_of

VM = "OpaqueRef:0a1b2c3d-0000-1111-2222-333344445555"
OTHER = "OpaqueRef:0a1b2c3d-0000-1111-2222-333344445556"
UUID = "0a1b2c3d-0000-1111-2222-333344445557"


def test_a_new_name_binds_to_what_stands_at_its_place() -> None:
    names = Names()
    assert names.unify("<VM:1>", VM)
    assert names.values["<VM:1>"] == VM


def test_a_bound_name_agrees_with_its_own_value_only() -> None:
    names = Names({"<VM:1>": VM})
    assert names.unify("<VM:1>", VM)
    assert not names.unify("<VM:1>", OTHER)


def test_two_names_of_a_class_never_stand_for_one_object() -> None:
    names = Names()
    names.unify("<VM:1>", VM)
    assert not names.unify("<VM:2>", VM)
    assert names.unify("<ref:1>", VM)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("<VM:1>", "OpaqueRef:NULL"),
        ("<VM:1>", UUID),
        ("<uuid:VM:1>", VM),
        ("<mac:1>", "not a mac"),
        ("<time>", "yesterday"),
        ("<generation>", "x"),
    ],
)
def test_a_name_refuses_values_of_another_form(name: str, value: str) -> None:
    assert not Names().unify(name, value)


def test_names_inside_a_text_are_bound_too() -> None:
    names = Names()
    assert names.match("VBD '<uuid:VBD:1>' at '<VM:1>'", f"VBD '{UUID}' at '{VM}'")
    assert names.values == {"<uuid:VBD:1>": UUID, "<VM:1>": VM}


def test_a_name_twice_in_a_text_stands_for_one_value() -> None:
    assert Names().match("<VM:1>,<VM:1>", f"{VM},{VM}")
    assert not Names().match("<VM:1>,<VM:1>", f"{VM},{OTHER}")


def test_what_is_no_name_is_compared_as_it_stands() -> None:
    assert not Names().match("<none/>", "<value/>")
    assert Names().match("<none/>", "<none/>")


def test_a_cut_text_is_the_beginning_of_ours() -> None:
    assert Names().match("so far", "so far and further", prefix=True)
    assert not Names().match("so far", "not so far", prefix=True)


def test_bindings_can_be_taken_back() -> None:
    names = Names()
    mark = names.mark()
    names.unify("<VM:1>", VM)
    names.undo(mark)
    assert names.unify("<VM:2>", VM)


def test_filling_a_text_names_what_is_missing() -> None:
    with pytest.raises(Unbound) as missing:
        Names({"<VM:1>": VM}).fill("<VM:1> and <VM:2>")
    assert missing.value.name == "<VM:2>"


def test_kinds_keep_uuids_apart_from_references() -> None:
    assert [kind_of(n) for n in ("<VM:1>", "<uuid:VM:1>", "<session>")] == [
        "VM",
        "uuid:VM",
        "session",
    ]
