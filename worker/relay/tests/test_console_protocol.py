"""The container's output over the protocol: the relay's half against the guest's."""

from __future__ import annotations

import random
import time

from worker.relay.protocol import Frame, request
from worker.relay.session import Began, Session
from worker.relay.tests.guest_process import Reader, a_guest, cut, needs_compiler

pytestmark = needs_compiler

NUMBERS = "i=0; while [ $i -lt {n} ]; do echo line $i; i=$((i+1)); done; echo end; sleep 60"


def numbers(n: int) -> bytes:
    return b"".join(b"line %d\n" % i for i in range(n)) + b"end\n"


def test_streams_times_and_bytes_come_as_they_were_written() -> None:
    script = r"printf 'h\303\251 \377\000\033[1m~\036\\x\r\n'; sleep 0.1; printf part >&2; sleep 60"
    with a_guest("sh", "-c", script) as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.text().endswith(b"part"))
        assert reader.text("o") == b"h\xc3\xa9 \xff\x00\x1b[1m~\x1e\\x\r\n"
        frames = [one for one in reader.heard if isinstance(one, Frame)]
        assert [(one.kind, one.seq, one.goes_on) for one in frames] == [
            ("n", 1, False), ("o", 2, False), ("e", 3, True),
        ]  # fmt: skip
        now = time.time() * 1000
        assert all(now - 60_000 < one.milliseconds <= now for one in frames)


def test_who_knows_nothing_of_it_reads_the_text_and_makes_nobody_wait() -> None:
    with a_guest("sh", "-c", NUMBERS.format(n=8000)) as wire:
        seen = b""
        until = time.monotonic() + 30
        while b" end\r\n" not in seen:
            assert time.monotonic() < until
            seen += wire.read()
        lines = seen.split(b"\r\n")
        assert [line for line in lines if b" line " in line][-1].endswith(b" line 7999")
        assert all(len(line) <= 510 and b"\x1b" not in line for line in lines)


def test_what_nobody_took_is_dropped_and_counted_and_the_rest_comes() -> None:
    with a_guest("sh", "-c", NUMBERS.format(n=8000)) as wire:
        seen = b""
        until = time.monotonic() + 30
        while b" end\r\n" not in seen:
            assert time.monotonic() < until
            seen += wire.read()
        reader = Reader(wire)
        reader.until(lambda: reader.text().endswith(b"end\n"))
        kept = reader.text()
        assert numbers(8000).endswith(kept)
        frames = [one for one in reader.heard if isinstance(one, Frame)]
        assert [gap.lines + len(frames) for gap in reader.gaps] == [frames[-1].seq]


def test_a_reader_that_keeps_nothing_holds_the_writer_back() -> None:
    with a_guest("sh", "-c", NUMBERS.format(n=8000)) as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.session.is_greeted)
        reader.keeps = False
        reader.until(lambda: reader.session.channels[0].next >= reader.session.channels[0].limit)
        for _ in range(20):
            reader.turn()
        inbound = reader.session.channels[0]
        assert inbound.next == inbound.limit + 1
        assert b"end" not in reader.text()
        reader.keeps = True
        reader.until(lambda: reader.text().endswith(b"end\n"))
        assert not reader.gaps or reader.gaps[0].lines < 8000


def test_kernel_messages_in_the_midst_of_lines_take_nothing_along() -> None:
    chance = random.Random(4)
    with a_guest("sh", "-c", NUMBERS.format(n=1500)) as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.session.is_greeted)
        told = 0
        until = time.monotonic() + 60
        while not reader.text().endswith(b"end\n"):
            assert time.monotonic() < until
            data = wire.read(500)
            if data and told < 200:
                at = chance.randrange(len(data))
                data = data[:at] + b"[%5d.000001] kernel %d\r\n" % (told, told) + data[at:]
                told += 1
            reader.take(data)
        assert numbers(1500).endswith(reader.text())
        assert (
            len(reader.text()) + sum(gap.lines for gap in reader.gaps) * 9
            >= len(numbers(1500)) - 20
        )
        assert all(b"] kernel %d\r\n" % n in reader.plain for n in range(told))


def test_garbled_requests_change_nothing() -> None:
    chance = random.Random(5)
    with a_guest("sh", "-c", "sleep 0.2; echo alive; sleep 60") as wire:
        for _ in range(300):
            line = bytearray(request("00000000000000b0", "ack", 0, 99, 99))
            for _ in range(3):
                line[chance.randrange(len(line))] = chance.randrange(256)
            wire.write(bytes(line) + chance.randbytes(20) + b"\n")
            wire.read()
        wire.write(b"\x1e" + b"x" * 40_000)
        reader = Reader(wire)
        reader.until(lambda: reader.text() == b"alive\n")


def test_another_boot_begins_anew() -> None:
    with a_guest("sh", "-c", "echo one; sleep 60") as wire:
        reader = Reader(wire, Session(boot="00000000000000a0", next=77))
        reader.until(lambda: reader.text() == b"one\n")
        assert Began("00000000000000b0", is_new=True) in reader.heard


def test_readers_come_and_go_two_hundred_times_without_loss_or_doubling() -> None:
    """Each sees some of the past again, is cut off at any byte, and leaves what it kept to the next."""
    chance = random.Random(6)
    n = 20_000
    with a_guest(
        "sh", "-c", f"read_on() {{ seq {n}; }}; sleep 0.3; read_on; echo end; sleep 60"
    ) as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.session.is_greeted)
        whole = bytearray()
        for _ in range(200):
            for _ in range(chance.randrange(1, 12)):
                reader.turn(0.005)
            reader.take(cut(wire.read(), chance))
            wire.read(chance.randrange(3000))  # on its way when the console broke
            assert not reader.gaps
            whole += reader.text()
            # What came but was not acknowledged is known to the one who kept it.
            session = Session(reader.session.boot, reader.session.channels[0].next)
            past = bytes(wire.past[chance.randrange(len(wire.past) + 1) :])
            reader = Reader(wire, session)
            if chance.random() < 0.5:
                reader.take(past)
            if chance.random() < 0.3:
                wire.write(b"\x1e0123 half a requ")
        reader.until(lambda: (whole + reader.text()).endswith(b"end\n"))
        assert not reader.gaps
        assert (
            bytes(whole) + reader.text()
            == b"".join(b"%d\n" % i for i in range(1, n + 1)) + b"end\n"
        )


def test_a_chatty_container_slows_only_itself() -> None:
    """By counts: while it stands still for want of acknowledgement, an exec writes and answers all it has."""
    from worker.relay.execs import Command

    with a_guest("sh", "-c", "yes chatter") as wire:
        reader = Reader(wire)
        reader.until(lambda: reader.session.is_greeted)
        reader.keeps = False
        one = reader.execs.open(Command(["sh", "-c", "seq 3000; cat"]))
        wrote = bytearray()

        def has_ended() -> bool:
            wrote.extend(b"".join(data for _, data in one.read()))
            return one.exit is not None

        one.write(b"typed\n")
        one.end_input()
        before = reader.session.channels[0].next
        reader.until(has_ended)
        has_ended()
        assert bytes(wrote) == b"".join(b"%d\n" % i for i in range(1, 3001)) + b"typed\n"
        inbound = reader.session.channels[0]
        assert inbound.next - before <= 128 + 1
