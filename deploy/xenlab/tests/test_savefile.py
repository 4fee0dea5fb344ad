"""The head of a saved state, as xl 4.17 writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.xenlab.agent import savefile
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.savefile import HEAD, LENGTH, MAGIC, MEMORY_FOLLOWS

CONFIGURATION = {"c_info": {"type": "pv"}, "b_info": {"max_vcpus": 1, "max_memkb": 98304}}


def test_the_configuration_and_where_memory_begins_are_found(tmp_path: Path) -> None:
    saved = savefile.head_of(state_of(tmp_path))
    assert saved.configuration == CONFIGURATION
    assert (tmp_path / "state").read_bytes()[saved.offset :] == b"memory"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"magic": b"something else".ljust(32)}, "not written by `xl save`"),
        ({"order": 0x04030201}, "not written by `xl save`"),
        ({"flags": 7}, "flags 0x7"),
        ({"length": 1 << 30}, "bytes of configuration"),
        ({"text": b"no JSON\0"}, "its configuration is no JSON"),
        ({"memory": b"LibxlFmt".ljust(24, b"\0")}, "its memory is not where it should be"),
        ({"memory": MEMORY_FOLLOWS[:20]}, "its memory is not where it should be"),
        ({"end": 20}, "too short"),
    ],
)
def test_a_file_that_is_no_saved_state_is_refused(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(AgentError, match=why) as refused:
        savefile.head_of(state_of(tmp_path, **changed))
    assert refused.value.code == "bad_saved_state"


def state_of(folder: Path, **changed: Any) -> Path:
    text = changed.get("text", json.dumps(CONFIGURATION).encode() + b"\0")
    told = LENGTH.pack(len(text)) + text
    head = HEAD.pack(
        changed.get("magic", MAGIC),
        changed.get("order", 0x01020304),
        changed.get("flags", 3),
        0,
        changed.get("length", len(told)),
    )
    whole = head + told + changed.get("memory", MEMORY_FOLLOWS + b"memory")
    file = folder / "state"
    file.write_bytes(whole[: changed.get("end", len(whole))])
    return file
