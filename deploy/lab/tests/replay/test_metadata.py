"""A snapshot's copy of its VM's record is read as a record."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.lab.replay import metadata
from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.names import Names
from deploy.lab.replay.places import Facts, Place

TEXT = r"""(('tags' '(\'a\' \'b\')') ('name__label' 'x') ('other_config' '((\'k\' \'v\'))') ('domid' '3'))"""


def test_sets_maps_and_texts_are_told_apart() -> None:
    assert metadata.fields(TEXT) == {
        "tags": ["a", "b"],
        "name_label": "x",
        "other_config": {"k": "v"},
        "domid": "3",
    }


@pytest.mark.parametrize("text", ["", "(", "(('a' 'b')) more", "('a' 'b')", "(('a'))"])
def test_what_is_no_copy_is_refused(text: str) -> None:
    assert metadata.fields(text) is None


@pytest.mark.parametrize(
    ("ours", "paths"),
    [
        (TEXT.replace(r"\'a\' \'b\'", r"\'b\' \'a\'"), []),
        (TEXT.replace("'3'", "'4'"), []),
        (TEXT.replace("'x'", "'y'"), ["result.name_label"]),
        ("", ["result"]),
    ],
)
def test_it_is_compared_field_by_field(ours: str, paths: list[Any]) -> None:
    comparison = Comparison(Names(), Facts())
    found = comparison.result("VM.get_snapshot_metadata", TEXT, ours, Place())
    assert [d.path for d in found] == paths
