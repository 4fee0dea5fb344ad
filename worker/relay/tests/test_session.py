"""Whatever is lost, doubled, torn or cut on the way: each line once, in order, or a gap that says how many."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.relay.protocol import (
    LONGEST_LINE,
    Decoder,
    Frame,
    Plain,
    encode,
    escape_word,
    request,
    unescape,
)
from worker.relay.session import Gap, Heard, Session
from worker.relay.tests.framing import Speaker

BOOT = "00000000000000b0"
payloads = st.binary(max_size=60)


@given(st.binary(max_size=100))
def test_every_byte_comes_back_from_its_escape(data: bytes) -> None:
    word = escape_word(data)
    assert word
    assert unescape(word) == data
    assert not set(word) & set(range(0x21))


@given(st.lists(payloads, max_size=8), st.randoms(use_true_random=False))
def test_pieces_of_any_size_make_the_same_frames(texts: list[bytes], chance: random.Random) -> None:
    frames = [Frame("o", 0, seq, 1_000_000, text) for seq, text in enumerate(texts, 1)]
    data = b"".join(encode(BOOT, frame) for frame in frames)
    decoder, found = Decoder(BOOT), []
    while data:
        cut = chance.randrange(1, len(data) + 1)
        found += decoder.feed(data[:cut])
        data = data[cut:]
    assert found == frames


@given(st.binary(max_size=400))
def test_no_bytes_of_a_hostile_guest_break_the_reader(data: bytes) -> None:
    session = Session(BOOT)
    session.connected(0)
    for piece in (data, b"\x1e" + data + b"\n", data):
        session.feed(piece, 0)
    assert len(session.outgoing(0)) < 10_000


@given(payloads, st.data())
def test_a_changed_byte_never_makes_another_frame(text: bytes, data: st.DataObject) -> None:
    frame = Frame("o", 0, 1, 1_000_000, text)
    line = bytearray(encode(BOOT, frame))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255))
    found = Decoder(BOOT).feed(bytes(line) + b"\n")
    assert [one for one in found if isinstance(one, Frame) and one != frame] == []


@given(payloads, st.data())
def test_a_kernel_message_through_a_line_takes_neither_along(
    text: bytes, data: st.DataObject
) -> None:
    frame = Frame("o", 0, 1, 1_000_000, text)
    line = encode(BOOT, frame)
    at = data.draw(st.integers(0, len(line) - 3))
    kernel = b"[    1.234567] oops\r\n"
    found = Decoder(BOOT).feed(line[:at] + kernel + line[at:])
    assert [one for one in found if isinstance(one, Frame)] == [frame]
    assert b"".join(one.data for one in found if isinstance(one, Plain)) == kernel


def test_a_line_that_never_ends_is_let_go() -> None:
    decoder = Decoder(BOOT)
    for _ in range(100):
        decoder.feed(b"\x1e" + b"x" * LONGEST_LINE)
        decoder.feed(b"y" * 4 * LONGEST_LINE)
    assert decoder.feed(encode(BOOT, Frame("o", 0, 1, 0, b"x")))[-1] == Frame("o", 0, 1, 0, b"x")


def test_a_request_that_is_too_long_is_refused() -> None:
    for words in (["exec", "x" * 20_000], ["exec"] * 513):
        try:
            request(BOOT, *words)
        except ValueError:
            continue
        raise AssertionError(words[:2])


class Road:
    """Between a guest and its readers: it may lose, double and tear what it carries."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.trouble = chance, True
        self.past = b""

    def carry(self, data: bytes) -> bytes:
        self.past = (self.past + data)[-3000:]
        if not self.trouble or not data:
            return data
        at = self.chance.randrange(len(data))
        match self.chance.randrange(8):
            case 0:
                return data[:at]
            case 1:
                return data[at:]
            case 2:
                return data + data
            case 3:
                return data[:at] + b"[    9.000001] noise\r\n" + data[at:]
            case 4:
                return data[:at] + bytes([self.chance.randrange(256)]) + data[at + 1 :]
            case 5:
                return self.past[self.chance.randrange(len(self.past)) :] + data
            case _:
                return data


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_over_any_road_each_line_comes_once_or_as_a_gap(seed: int) -> None:
    chance = random.Random(seed)
    speaker, road, session = Speaker(), Road(chance), Session()
    now, heard, said = 0.0, list[Heard](), 0
    session.connected(now)
    for step in range(120):
        now += 0.5
        data = speaker.hello() + speaker.again() if step % 10 == 0 else b""
        if step < 60:
            for _ in range(chance.randrange(4)):
                said += 1
                data += speaker.say(b"line %d" % said)
            if chance.random() < 0.05:
                speaker.lose(chance.randrange(3))
        road.trouble = step < 90
        heard += session.feed(road.carry(data), now)
        heard += session.feed(road.carry(speaker.hear(road.carry(session.outgoing(now)))), now)
        if chance.random() < 0.7:
            session.keep(0, session.channels[0].next - 1)
        if step < 90 and chance.random() < 0.1:
            session = Session(session.boot, session.channels[0].next)
            session.connected(now)
    expected = 1
    for event in heard:
        if isinstance(event, Gap):
            expected += event.lines
        elif isinstance(event, Frame):
            assert (event.seq, event.data) == (expected, b"line %d" % expected)
            expected += 1
    assert expected == said + 1
