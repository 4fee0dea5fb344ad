"""What is left of a guest's bytes when it becomes lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.compute.output import LONGEST_LINE
from worker.relay.text import PATIENCE, Lines, clean


def lines_of(*pieces: bytes) -> list[str]:
    reader = Lines()
    return [line for piece in pieces for line in reader.feed(piece, 0)]


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1b(Bcharset\x1b7\x1b=", "charset"),
        ("\x1b]0;a title without an end", ""),
        ("\x1bP1;2q~~\x1b\\after", "after"),
        ("bell\x07 back\x08space \x7fdel", "bell backspace del"),
        ("10%\r20%\r30%", "30%"),
        ("done\r\x1b[K", "done"),
        ("dos\r", "dos"),
        ("a\tb", "a       b"),
        ("nul\0", "nul"),
        ("evil \u202etxt.exe\u2066", "evil txt.exe"),
        ("two\u2028lines", "twolines"),
        ("", ""),
    ],
)
def test_only_what_a_person_reads_is_left(raw: str, read: str) -> None:
    assert clean(raw) == read


def test_a_line_may_come_in_pieces() -> None:
    assert lines_of(b"he", b"llo\nwor", b"ld\n") == ["hello", "world"]


def test_a_character_and_a_sequence_may_be_cut_anywhere() -> None:
    whole = "☃ \x1b[31mred\x1b[0m ☃\r\n".encode()
    for at in range(len(whole)):
        assert lines_of(whole[:at], whole[at:]) == ["☃ red ☃"]


def test_what_is_no_utf_8_is_shown_as_such() -> None:
    assert lines_of(b"\xff\xfe \xed\xa0\x80 ok\n") == ["\ufffd\ufffd \ufffd\ufffd\ufffd ok"]


def test_empty_lines_are_lines() -> None:
    assert lines_of(b"a\n\nb\n") == ["a", "", "b"]


def test_a_line_without_an_end_is_told_after_a_while() -> None:
    reader = Lines()
    assert reader.feed(b"login: ", 10) == []
    assert reader.overdue(10 + PATIENCE / 2) == []
    assert reader.overdue(10 + PATIENCE) == ["login: "]
    assert reader.overdue(20) == []


def test_it_waits_since_it_began() -> None:
    reader = Lines()
    reader.feed(b"first\n", 0)
    reader.feed(b"second", 100)
    assert reader.overdue(100.1) == []


def test_the_end_of_a_line_that_was_told_is_no_line() -> None:
    reader = Lines()
    reader.feed(b"waiting", 0)
    assert reader.overdue(PATIENCE) == ["waiting"]
    assert reader.feed(b"\r\nnext\n", PATIENCE) == ["next"]


def test_a_long_line_is_told_in_parts() -> None:
    reader = Lines()
    assert reader.feed(b"x" * (LONGEST_LINE + 1), 0) == ["x" * LONGEST_LINE]
    assert reader.feed(b"\ny\n", 0) == ["x", "y"]
    assert reader.feed(b"z" * 2 * LONGEST_LINE + b"\n", 0) == ["z" * LONGEST_LINE] * 2


def test_a_long_line_is_not_cut_within_a_sequence() -> None:
    text = b"x" * (LONGEST_LINE - 2) + b"\x1b[31mred\n"
    assert lines_of(text) == ["x" * (LONGEST_LINE - 2), "red"]
    reader = Lines()
    reader.feed(b"prompt\x1b[3", 0)
    assert reader.overdue(PATIENCE) == ["prompt"]
    assert reader.feed(b"1m>\n", PATIENCE) == [">"]


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_nothing_that_harms_is_ever_kept(pieces: list[bytes]) -> None:
    reader = Lines()
    lines = [line for piece in pieces for line in reader.feed(piece, 0)] + reader.unfinished()
    for line in lines:
        assert len(line) <= LONGEST_LINE
        assert line.isprintable() or not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line)
        line.encode()
