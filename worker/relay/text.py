"""From a console's bytes to lines that may be kept and shown. A guest writes whatever it likes."""

from __future__ import annotations

import codecs
import re
from typing import Any

from hosting.compute.output import LONGEST_LINE

PATIENCE = 1.0
"""Seconds that a line may stay without its end before it is told as it is."""

# ECMA-48: what a terminal obeys and a person does not read. The last part of each is optional, so that a
# sequence that never ends takes nothing along but its own line.
_ESCAPES = re.compile(
    r"""
    (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]?                      # colours, moves of the cursor
    | (?: \x1b[\]PX^_] | [\x90\x98\x9d-\x9f] )                    # titles, links: up to their end
      [^\x07\x1b\x9c]* (?: \x07 | \x1b\\ | \x9c )?
    | \x1b [ -/]* [0-~]?                                          # the short ones
    """,
    re.VERBOSE,
)
# Controls of ASCII and Unicode but the tab, and what turns the direction of writing or ends a line.
_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_LONGEST_ESCAPE = 64


def clean(raw: str) -> str:
    """A line as a person would read it at a terminal, with what was written over left out."""
    for part in reversed(raw.split("\r")):
        text = _CONTROLS.sub("", _ESCAPES.sub("", part))
        if text:
            return text.expandtabs()[:LONGEST_LINE]
    return ""


class Lines:
    """One console's lines. What has no end after a second, or a thousand characters, is a line too."""

    def __init__(self, rest: list[Any] | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text, undecoded, is_continued = rest or ("", "", False)
        self._rest: str = text
        self._is_continued: bool = is_continued
        self._decoder.setstate((bytes.fromhex(undecoded), 0))
        self._waits_since = 0.0

    def rest(self) -> list[Any]:
        """What has no end yet, as JSON can hold it: for one who goes on here."""
        return [self._rest, self._decoder.getstate()[0].hex(), self._is_continued]

    @property
    def is_waiting(self) -> bool:
        """Is there a line without an end?"""
        return bool(self._rest)

    def feed(self, data: bytes, now: float) -> list[str]:
        """The lines that `data` completes."""
        if not self._rest:
            self._waits_since = now
        *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        lines: list[str] = []
        for line in whole:
            *pieces, last = _pieces(line)
            lines += map(clean, pieces)
            # The end of a line that was told already is no line of its own.
            if last.rstrip("\r") or not (pieces or self._is_continued):
                lines.append(clean(last))
            self._is_continued = False
        if whole:
            self._waits_since = now
        *pieces, self._rest = _pieces(self._rest)
        if pieces:
            lines += map(clean, pieces)
            self._is_continued, self._waits_since = True, now
        return lines

    def overdue(self, now: float) -> list[str]:
        """The line that has waited too long for its end, if there is one."""
        if not self._rest or now - self._waits_since < PATIENCE:
            return []
        self._waits_since = now
        return self.unfinished()

    def unfinished(self) -> list[str]:
        """The line that has no end yet; what comes of it later counts as its continuation."""
        cut = _cut(self._rest, len(self._rest))
        told, self._rest = self._rest[:cut], self._rest[cut:]
        if not told:
            return []
        self._is_continued = True
        return [text] if (text := clean(told)) else []


def _pieces(line: str) -> list[str]:
    pieces = []
    while len(line) > LONGEST_LINE:
        cut = _cut(line, LONGEST_LINE)
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


def _cut(text: str, at: int) -> int:
    """`at`, or a little before, so that no escape sequence is cut in two."""
    start = text.rfind("\x1b", max(0, at - _LONGEST_ESCAPE), at)
    if start > 0 or (start == 0 and at < _LONGEST_ESCAPE):
        found = _ESCAPES.match(text, start, at)
        if found is not None and found.end() == at:
            return start
    return at
