"""What a person reads: one line per event, prefixed with who says it."""

import contextlib
import os
import sys
from typing import TextIO

_COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_BOLD, _RED, _DIM = 1, 91, 2


class Console:
    """Prints prefixed lines; colours only on a terminal, and never with NO_COLOR set."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.colors = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._hues: dict[str, int] = {}

    def says(self, name: str, line: str) -> None:
        """`line` as said by the process `name`."""
        hue = self._hues.setdefault(name, _COLORS[len(self._hues) % len(_COLORS)])
        self._write(f"{self._margin(name, hue)} {line}")

    def note(self, line: str) -> None:
        """The supervisor's own word."""
        self._write(f"{self._margin('', _DIM)} {self._paint(line, _BOLD)}")

    def complain(self, line: str) -> None:
        """Something went wrong."""
        self._write(f"{self._margin('', _DIM)} {self._paint(line, _RED)}")

    def plain(self, text: str) -> None:
        """Text that a person may want to copy."""
        self._write(text)

    def _margin(self, name: str, code: int) -> str:
        return self._paint(f"{name:>10} │", code)

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colors else text

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            # The reader may be gone (a closed terminal, `| head`): what runs must still be stopped in order.
            print(text, file=self._stream, flush=True)
