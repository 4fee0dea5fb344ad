"""The head of a domain's saved state as `xl save` of Xen 4.17 writes it.

xl's own head (xl.h, xl_saverestore.c), with the domain's configuration as JSON; then libxl's stream
(docs/specs/libxl-migration-stream.pandoc), whose first record says that libxc's follows, which is all that PV and
PVH domains need.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.xenlab.agent.errors import AgentError

MAGIC = b"Xen saved domain, xl format\n \0 \r"
BYTE_ORDER = 0x01020304
JSON, STREAM_V2 = 1, 2
# Magic, byte order, mandatory and optional flags, length of what follows.
HEAD = struct.Struct("<32sIIII")
LENGTH = struct.Struct("<I")
# libxl's own head in network order: "LibxlFmt", version 2, the rest little-endian; then a record's type and length.
MEMORY_FOLLOWS = struct.pack(">8sII", b"LibxlFmt", 2, 0) + struct.pack("<II", 1, 0)
LONGEST = 1 << 20


@dataclass(frozen=True)
class SavedState:
    """`configuration` is libxl's of the domain, `offset` where libxc's stream begins."""

    configuration: dict[str, Any]
    offset: int


def head_of(file: Path) -> SavedState:
    """Raises AgentError `bad_saved_state`, OSError."""
    with file.open("rb") as stream:
        head = stream.read(HEAD.size)
        if len(head) < HEAD.size:
            raise _bad(file, "too short")
        magic, order, mandatory, _, length = HEAD.unpack(head)
        if magic != MAGIC or order != BYTE_ORDER:
            raise _bad(file, "not written by `xl save`")
        if mandatory != JSON | STREAM_V2 or not LENGTH.size < length <= LONGEST:
            raise _bad(file, f"flags {mandatory:#x} and {length} bytes of configuration")
        told = stream.read(length)
        rest = stream.read(len(MEMORY_FOLLOWS))
    (size,) = LENGTH.unpack_from(told)
    try:
        configuration = json.loads(told[LENGTH.size : LENGTH.size + size].rstrip(b"\0"))
    except ValueError as error:
        raise _bad(file, f"its configuration is no JSON: {error}") from error
    if rest != MEMORY_FOLLOWS:
        raise _bad(file, "its memory is not where it should be")
    return SavedState(configuration, HEAD.size + length + len(rest))


def _bad(file: Path, why: str) -> AgentError:
    return AgentError("bad_saved_state", f"{file.name} is no saved state of a domain: {why}")
