"""What a hostile layer is, and what comes of it.

An outcome is the code of the refusal, or what is on the disk then: name to a word on the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.images.records import MIB, Limits

Outcome = str | dict[str, str]
MALFORMED, LARGE, MISMATCH = "layer_malformed", "too_large", "digest_mismatch"
LIMITS = Limits(unpacked_bytes=64 * MIB, disk_bytes=256 * MIB, entries=5000, depth=32, ratio=50)


@dataclass(frozen=True)
class Case:
    name: str
    outcome: Outcome
    archives: Sequence[bytes]
    blobs: Sequence[bytes] | None = None
    """As the registry keeps them, if not simply packed."""
    limits: Limits = LIMITS
