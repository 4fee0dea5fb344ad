"""A guest that speaks the console protocol, in memory: as much of it as readers are tried with."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from worker.relay.protocol import Frame, encode


@dataclass
class Speaker:
    """It sends what it is asked for and forgets what is acknowledged."""

    boot: str = "00000000000000b0"
    first: int = 1
    frames: list[Frame] = field(default_factory=list)
    limit: int = 0
    sent: int = 0
    asked: list[list[str]] = field(default_factory=list)
    _line: bytes = b""

    @property
    def next(self) -> int:
        return self.first + len(self.frames)

    def say(self, text: bytes, kind: str = "o", *, goes_on: bool = False) -> bytes:
        """The new line; it is to be sent when the reader wants it."""
        frame = Frame(kind, 0, self.next, 1_900_000_000_000 + self.next, text, goes_on)
        self.frames.append(frame)
        return encode(self.boot, frame)

    def lose(self, count: int) -> None:
        """It had to let its oldest go."""
        count = min(count, len(self.frames))
        del self.frames[:count]
        self.first += count

    def hello(self, nonce: str = "-") -> bytes:
        data = f"1 boot={self.boot} exec=1 garbled=0 to={nonce}".encode()
        return encode(self.boot, Frame("h", 0, 0, 0, data))

    def status(self) -> bytes:
        data = f"first={self.first} next={self.next} dropped=0".encode()
        return encode(self.boot, Frame("s", 0, 0, 0, data))

    def again(self) -> bytes:
        """What it sends again when nothing was acknowledged for long."""
        return b"".join(encode(self.boot, one) for one in self.frames if one.seq <= self.limit)

    def hear(self, data: bytes) -> bytes:
        """What it answers to what the reader sent."""
        answer = b""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            _, mark, rest = line.rpartition(b"\x1e")
            check, _, body = rest.partition(b" ")
            words = body.decode(errors="replace").split(" ")
            boot = b"" if words[0] == "hello" else self.boot.encode()
            if mark and check == b"%08x" % zlib.crc32(boot + body):
                self.asked.append(words)
                answer += self._obey(words)
        return answer

    def _obey(self, words: list[str]) -> bytes:
        if words[0] == "hello":
            self.limit = 0
            return self.hello(words[2]) + self.status()
        if words[0] not in ("ack", "again"):
            return b""
        seq, self.limit = int(words[2]), int(words[3])
        if words[0] == "ack":
            self.lose(max(0, min(seq + 1, self.next) - self.first))
            seq = self.sent + 1
        wanted = [one for one in self.frames if seq <= one.seq <= self.limit]
        self.sent = max([self.sent, *(one.seq for one in wanted)])
        lost = self.status() if seq < self.first else b""
        return lost + b"".join(encode(self.boot, one) for one in wanted)
