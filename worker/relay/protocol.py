"""The text console protocol (docs/console-protocol.md): bytes to events, requests to bytes. Pure.

What comes may be cut, doubled, lost or torn by kernel messages at any byte: a check on each line tells.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MARK = b"\x1e"
VERSION = 1
LONGEST_LINE = 512
LONGEST_REQUEST = 16 * 1024
MOST_WORDS = 512
# A line that is longer, kernel messages within it included, is none.
_LONGEST_TORN = 4 * LONGEST_LINE

_LINE = re.compile(
    rb"([0-9a-f]{8}) (([a-z])(\+?)(\d{0,10}) (\d{1,20}) (\d{1,10})\.(\d{3}) (.*))", re.DOTALL
)
_KERNEL = re.compile(rb"\[ *\d+\.\d{6}\]")
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.|$)", re.DOTALL)
_BYTE_OF = {
    b"\\": b"\\",
    b"t": b"\t",
    b"r": b"\r",
    b"n": b"\n",
    b"e": b"\x1b",
    b"s": b" ",
    b"z": b"",
}
_ESCAPED = {byte: b"\\" + letter for letter, byte in _BYTE_OF.items() if byte}
_TO_ESCAPE = re.compile(rb"[\x00-\x20\x7f-\xff\\]")


@dataclass(frozen=True, slots=True)
class Frame:
    """One of a channel's numbered lines. `kind`: o stdout, e stderr, n init's own, x an exec's end.

    `milliseconds` is the guest's clock since 1970; `goes_on` says that no end of line follows `data`.
    """

    kind: str
    channel: int
    seq: int
    milliseconds: int
    data: bytes
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """The guest told who it is. `next_exec` is the least number that an exec may have.

    `nonce` is that of the greeting it answers; "-" when it was not asked.
    """

    boot: str
    next_exec: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Status:
    """A channel's window. `taken` and `room` (bytes of stdin) are an exec's."""

    channel: int
    first: int
    next: int
    dropped: int
    taken: int = 0
    room: int = 0
    is_at_end: bool = False
    signals: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A request was refused: `about` says which ("exec"), `reason` why ("gone")."""

    channel: int
    about: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plain:
    """Bytes outside of lines of the protocol: the kernel's, or those of a guest that does not speak it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stranger:
    """A line of the protocol whose check is wrong for the boot we know: torn, or of another boot."""


Event: TypeAlias = Frame | Hello | Status | Reply | Plain | Stranger


class Decoder:
    """Of one console. `boot` is what the lines are checked against: whoever uses it says which."""

    def __init__(self, boot: str | None = None) -> None:
        self.boot = boot
        self._line: bytearray | None = None
        self._torn: tuple[bytes, bytes] | None = None
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """What `data` completes."""
        return [
            event for part in re.split(rb"(\x1e|\n)", data) if part for event in self._take(part)
        ]

    def close(self) -> list[Event]:
        """The console ended: what has no end will get none."""
        self._line = None
        return list(self._give_up_torn())

    def _take(self, part: bytes) -> Iterator[Event]:
        if part == MARK:
            if self._line is not None:
                yield Stranger()
            yield from self._give_up_torn()
            self._line = bytearray()
        elif self._line is not None:
            if part == b"\n":
                line, self._line = bytes(self._line), None
                yield from self._end_line(line)
            elif len(self._line) + len(part) > _LONGEST_TORN:
                self._line = None
                yield Stranger()
                yield Plain(part)
            else:
                self._line += part
        elif self._torn is not None:
            self._rest += part
            if part == b"\n":
                yield from self._mend()
            elif len(self._rest) > LONGEST_LINE:
                yield from self._give_up_torn()
        else:
            yield Plain(part)

    def _end_line(self, line: bytes) -> Iterator[Event]:
        event = self._parse(line)
        if isinstance(event, Stranger) and (kernel := _KERNEL.search(line)):
            # A kernel message went right through it: the other half comes after that.
            self._torn = line[: kernel.start()], line[kernel.start() :] + b"\n"
            return
        yield event

    def _mend(self) -> Iterator[Event]:
        assert self._torn is not None
        head, kernel = self._torn
        event = self._parse(head + bytes(self._rest[:-1]))
        if isinstance(event, Stranger):
            yield from self._give_up_torn()
            return
        self._torn = None
        self._rest.clear()
        yield Plain(kernel)
        yield event

    def _give_up_torn(self) -> Iterator[Event]:
        if self._torn is None:
            return
        kernel, rest = self._torn[1], bytes(self._rest)
        self._torn = None
        self._rest.clear()
        yield Stranger()
        yield Plain(kernel)
        if rest:
            yield Plain(rest)

    def _parse(self, line: bytes) -> Event:
        found = _LINE.fullmatch(line.removesuffix(b"\r"))
        if found is None:
            return Stranger()
        check, body, letter, plus, number, seq, seconds, thousandths, text = found.groups()
        boot = b"" if letter == b"h" else (self.boot or "").encode()
        if zlib.crc32(boot + body) != int(check, 16) or (letter != b"h" and not self.boot):
            return Stranger()
        try:
            return self._event(
                letter.decode(),
                int(number or b"0"),
                Frame(
                    letter.decode(),
                    int(number or b"0"),
                    int(seq),
                    int(seconds) * 1000 + int(thousandths),
                    unescape(text),
                    bool(plus),
                ),
            )
        except (ValueError, KeyError):
            return Stranger()

    def _event(self, kind: str, channel: int, frame: Frame) -> Event:
        """Raises ValueError, KeyError."""
        if kind in "oenx":
            return frame
        words = frame.data.decode("ascii").split(" ")
        given = dict(word.split("=", 1) for word in words if "=" in word)
        if kind == "h":
            if words[0] != str(VERSION) or not re.fullmatch("[0-9a-f]{16}", given["boot"]):
                return Stranger()
            return Hello(given["boot"], int(given["exec"]), given["to"])
        if kind == "s":
            taken, room, end, signals = (
                int(given.get(name, "0")) for name in ("in", "room", "eof", "signals")
            )
            first, following, dropped = (int(given[name]) for name in ("first", "next", "dropped"))
            return Status(channel, first, following, dropped, taken, room, bool(end), signals)
        if kind == "r":
            return Reply(channel, words[0], " ".join(words[1:]))
        return Stranger()


def unescape(text: bytes) -> bytes:
    """Raises ValueError."""

    def byte(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if len(code) == 3:
            return bytes.fromhex(code[1:].decode())
        if code not in _BYTE_OF:
            raise ValueError("no escape of the protocol")
        return _BYTE_OF[code]

    return _ESCAPE.sub(byte, text)


def escape_word(word: bytes) -> bytes:
    """A word of a request: no space, no control, never empty."""
    return (
        _TO_ESCAPE.sub(lambda found: _ESCAPED.get(found[0]) or b"\\x%02x" % found[0][0], word)
        or b"\\z"
    )


def request(boot: str | None, *words: str | bytes | int) -> bytes:
    """One line for the guest. Only "hello" needs no boot. Raises ValueError when it is too long."""
    given: Sequence[bytes] = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    body = b" ".join(map(escape_word, given))
    check = zlib.crc32((boot or "").encode() + body)
    line = MARK + b"%08x " % check + body
    if len(line) - 1 > LONGEST_REQUEST or len(given) > MOST_WORDS:
        raise ValueError("The request is too long for a console.")
    return line + b"\n"


# A tty shows controls so; only greetings are sent to who may not listen yet.
_ECHO = re.compile(r"\^\^([0-9a-f]{8}) (hello 1 [0-9a-z]{1,16})")
# One that broke off when init took the tty: session.py's greetings have eight digits.
_BROKEN_ECHO = re.compile(r"\^\^[0-9a-f]{8} hello 1 [0-9a-f]{0,7}$")


def without_echoes(text: str) -> str | None:
    """A line that a console showed, without the greetings that its tty echoed; None when it was only those."""

    def unless_ours(found: re.Match[str]) -> str:
        return "" if zlib.crc32(found[2].encode()) == int(found[1], 16) else found[0]

    rest = _BROKEN_ECHO.sub("", _ECHO.sub(unless_ours, text))
    return rest if rest or rest == text else None


def encode(boot: str, frame: Frame) -> bytes:
    """A guest's line: for guests in tests and in the lab. `data` must fit into a line."""
    token = f"{frame.kind}{'+' if frame.goes_on else ''}{frame.channel or ''}"
    stamp = f"{frame.milliseconds // 1000}.{frame.milliseconds % 1000:03}"
    text = b" ".join(_TO_ESCAPE.sub(_escape_byte, word) for word in frame.data.split(b" "))
    body = f"{token} {frame.seq} {stamp} ".encode() + text
    check = zlib.crc32((b"" if frame.kind == "h" else boot.encode()) + body)
    return MARK + b"%08x " % check + body + b"\r\n"


def _escape_byte(found: re.Match[bytes]) -> bytes:
    return _ESCAPED.get(found[0]) or b"\\x%02x" % found[0][0]
