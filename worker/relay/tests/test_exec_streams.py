"""Commands run in a guest over its console: the relay's half against the guest's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.relay.execs import Command, Exec, ExecRefused, Exit
from worker.relay.tests.guest_process import Reader, Wire, a_guest, needs_compiler

pytestmark = needs_compiler


@pytest.fixture
def reader() -> Iterator[Reader]:
    with a_guest("sleep", "60") as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.session.is_greeted)
        yield reader


class Run:
    """A command, and what it wrote so far."""

    def __init__(self, reader: Reader, command: Command) -> None:
        self.reader, self.one = reader, reader.execs.open(command)
        self.wrote = {"o": b"", "e": b""}

    def look(self) -> Exec:
        for kind, data in self.one.read():
            self.wrote[kind] += data
        return self.one

    def end(self) -> Exit:
        self.reader.until(lambda: self.look().exit is not None)
        self.look()
        assert self.one.exit is not None
        return self.one.exit

    def until_out(self, text: bytes) -> None:
        self.reader.until(lambda: self.look() is not None and text in self.wrote["o"])


def test_output_and_exit_code_come_back(reader: Reader) -> None:
    run = Run(reader, Command(["sh", "-c", "echo out; echo err >&2; exit 7"]))
    assert run.end() == Exit("exit", 7)
    assert run.wrote == {"o": b"out\n", "e": b"err\n"}


def test_arguments_variables_and_folder_arrive_byte_for_byte(reader: Reader) -> None:
    command = Command(
        ["sh", "-c", 'printf "%s|" "$@" "$X" "$PWD"', "sh", "", "a b", "é\n\\\t\x1b"],
        {"X": "1=2"},
        "/usr",
    )
    run = Run(reader, command)
    assert run.end() == Exit("exit", 0)
    assert run.wrote["o"] == "|a b|é\n\\\t\x1b|1=2|/usr|".encode()


def test_stdin_of_any_bytes_comes_through_whole(reader: Reader) -> None:
    data = bytes(range(256)) * 200
    run = Run(reader, Command(["cat"]))
    assert run.one.write(data) == len(data)
    run.one.end_input()
    assert run.end() == Exit("exit", 0)
    assert run.wrote["o"] == data


def test_a_terminal_has_the_size_that_it_is_told(reader: Reader) -> None:
    script = "stty size; read x; stty size; exit 3"
    run = Run(reader, Command(["sh", "-c", script], tty=True, rows=24, cols=80))
    run.until_out(b"24 80\r\n")
    run.one.resize(50, 132)
    run.one.write(b"go\n")
    run.until_out(b"50 132\r\n")
    assert run.end() == Exit("exit", 3)


def test_a_signal_ends_it(reader: Reader) -> None:
    run = Run(reader, Command(["sh", "-c", "echo up; exec sleep 60"]))
    run.until_out(b"up")
    run.one.signal(15)
    assert run.end() == Exit("signal", 15)


def test_closing_ends_what_nobody_wants(reader: Reader) -> None:
    run = Run(reader, Command(["sleep", "60"]))
    run.one.close()
    assert run.end() == Exit("signal", 9)


def test_a_refusal_says_why(reader: Reader) -> None:
    one = reader.execs.open(Command(["refused"]))
    reader.until(lambda: one.is_over)
    with pytest.raises(ExecRefused) as caught:
        one.read()
    assert caught.value.reason == "failed 1 Operation not permitted"


def test_the_ninth_at_once_is_refused_and_a_place_becomes_free(reader: Reader) -> None:
    runs = [Run(reader, Command(["cat"])) for _ in range(9)]
    reader.until(lambda: runs[8].one.is_over and all(run.one.is_running for run in runs[:8]))
    with pytest.raises(ExecRefused, match="full"):
        runs[8].one.read()
    runs[0].one.end_input()
    assert runs[0].end() == Exit("exit", 0)
    later = Run(reader, Command(["true"]))
    assert later.end() == Exit("exit", 0)


def test_one_that_is_not_read_waits_and_the_others_do_not(reader: Reader) -> None:
    unread = reader.execs.open(Command(["yes"]))
    run = Run(reader, Command(["sh", "-c", "seq 2000"]))
    assert run.end() == Exit("exit", 0)
    assert run.wrote["o"] == b"".join(b"%d\n" % n for n in range(1, 2001))
    reader.until(lambda: reader.session.channels[unread.number].next > 32)
    for _ in range(20):
        reader.turn()
    waiting = unread.read()
    assert len(b"".join(data for _, data in waiting)) <= 32 * 1024
    reader.until(lambda: unread.read() != [])


def test_a_command_goes_on_with_the_next_console_exactly_where_it_was(reader: Reader) -> None:
    run = Run(reader, Command(["cat"]))
    data = b"".join(b"%d\n" % n for n in range(5000))
    run.one.write(data)
    run.one.end_input()
    for _ in range(30):
        reader.turn()
        reader.wire.read(100)  # lost with the connection
        reader.session.connected(0)
    assert run.end() == Exit("exit", 0)
    assert run.wrote["o"] == data


def test_a_guest_that_begins_anew_has_lost_its_commands(reader: Reader) -> None:
    run = Run(reader, Command(["cat"]))
    reader.until(lambda: run.one.is_running)
    other = Wire(["sleep", "60"], boot=0xB1)
    try:
        reader.wire = other
        reader.session.connected(0)
        reader.until(lambda: run.one.exit == Exit("lost", 0))
    finally:
        other.close()


@pytest.mark.parametrize(
    "command",
    [
        Command([]),
        Command([""]),
        Command(["a\0"]),
        Command(["a"], {"": "x"}),
        Command(["a"], {"=": ""}),
    ],
)
def test_what_can_be_no_command_is_not_sent(reader: Reader, command: Command) -> None:
    with pytest.raises(ValueError):
        reader.execs.open(command)
