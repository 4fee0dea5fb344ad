"""What a guest that speaks the console protocol wrote, as lines that may be kept, and how far it is kept."""

from __future__ import annotations

import json
from typing import Any

from hosting.compute.output import Written
from worker.relay.protocol import Frame, Plain
from worker.relay.session import CREDIT, Began, Gap, Session
from worker.relay.text import Lines

_STREAMS = {"o": "stdout", "e": "stderr", "n": "init"}


class Framed:
    """Of one guest, over all its consoles. `mark` is what was kept with its last lines, if anything was."""

    def __init__(self, mark: str | None = None) -> None:
        given: dict[str, Any] = json.loads(mark) if mark else {}
        self.session = Session(given.get("boot"), given.get("next", 1))
        rests: dict[str, list[Any]] = given.get("rests", {})
        self._lines = {name: Lines(rests.get(name)) for name in _STREAMS.values()}
        self._written_at: dict[str, int | None] = dict.fromkeys(_STREAMS.values())

    @property
    def speaks(self) -> bool:
        return self.session.speaks

    def feed(self, data: bytes, now: float) -> tuple[list[Written], bytes]:
        """The lines that `data` completes, and what of it is outside of the protocol."""
        lines: list[Written] = []
        plain = bytearray()
        for heard in self.session.feed(data, now):
            if isinstance(heard, Plain):
                plain += heard.data
            elif isinstance(heard, Frame) and heard.kind in _STREAMS and heard.channel == 0:
                lines += self._take(heard, now)
            elif isinstance(heard, Gap) and heard.channel == 0:
                lines += [*self.unfinished(), _gap(heard.lines)]
            elif isinstance(heard, Began) and heard.is_new:
                lines += self.unfinished()
        return lines, bytes(plain)

    def overdue(self, now: float) -> list[Written]:
        """Lines that have waited too long for their end."""
        return [
            Written(text, stream, self._written_at[stream])
            for stream, lines in self._lines.items()
            for text in lines.overdue(now)
        ]

    def unfinished(self) -> list[Written]:
        """Lines that will get no end."""
        return [
            Written(text, stream, self._written_at[stream])
            for stream, lines in self._lines.items()
            for text in lines.unfinished()
        ]

    def mark(self) -> str | None:
        """How far it was read, to be kept with its lines; None for a guest that does not speak."""
        if not self.speaks:
            return None
        rests = {name: lines.rest() for name, lines in self._lines.items()}
        following = self.session.channels[0].next
        return json.dumps({"boot": self.session.boot, "next": following, "rests": rests})

    def keep(self, credit: int) -> None:
        """All that was read is kept; the guest may be so many lines ahead."""
        self.session.keep(0, self.session.channels[0].next - 1, min(credit, CREDIT))

    def _take(self, frame: Frame, now: float) -> list[Written]:
        stream = _STREAMS[frame.kind]
        lines = self._lines[stream]
        if not lines.is_waiting:
            self._written_at[stream] = frame.milliseconds
        data = frame.data if frame.goes_on else frame.data + b"\n"
        return [Written(text, stream, self._written_at[stream]) for text in lines.feed(data, now)]


def _gap(lines: int) -> Written:
    return Written(f"[{lines} lines lost: written while nobody read them]", "relay")
