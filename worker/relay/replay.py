"""What a console shows again when it is opened again.

Some consoles begin with what they showed before, others with what comes next; nothing says which. So the
text it opens with is compared with the text that was kept. Where a guest says the same again and again the
place cannot be told for certain: then a line may come twice, or one of several equal ones be missing.
"""

from __future__ import annotations

from collections.abc import Sequence

# Of the text kept last: as much as this, found again, is no accident.
_ENOUGH = 1000


def unseen(opening: Sequence[str], kept: Sequence[str]) -> list[str]:
    """The lines that a console opened with, less those at its head that were kept before.

    Texts are compared without their ends of lines: where a slow line was cut is an accident of its time.
    """
    seen = _seen_characters("".join(opening), "".join(kept))
    if not seen:
        return list(opening)
    for number, line in enumerate(opening):
        if len(line) > seen:
            return [line[seen:], *opening[number + 1 :]]
        seen -= len(line)
        if not seen:
            return list(opening[number + 1 :])
    return []


def _seen_characters(opening: str, kept: str) -> int:
    if not kept:
        return 0
    for known in (kept, kept[-_ENOUGH:]):
        at = opening.find(known)
        if at >= 0:
            return at + len(known)
    # It begins within what was kept: the longest head that is its tail.
    return next(
        (
            length
            for length in range(min(len(opening), len(kept)), 0, -1)
            if kept.endswith(opening[:length])
        ),
        0,
    )
