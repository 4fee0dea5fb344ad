"""Guests that speak the console protocol: every line once, with its stream, whatever ends meanwhile."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from hosting.compute.output import Written, append_lines, forget_lines, last_lines, last_mark
from hosting.errors import Unavailable
from hosting.fleet.models import VirtualMachine
from worker.relay import relay as relaying
from worker.relay.tests.consoles import Screen
from worker.relay.tests.desk import Desk
from worker.relay.tests.framing import Speaker
from worker.relay.tests.guest_process import Wire, a_guest, needs_compiler

pytestmark = pytest.mark.django_db(transaction=True)


class Talk:
    """A guest at its console."""

    def __init__(self, desk: Desk, **given: Any) -> None:
        self.desk, self.speaker = desk, Speaker()
        self.vm: VirtualMachine
        self.screen: Screen
        self.vm, self.screen = desk.guest(**given)

    def pass_by(self, seconds: float = 3.0) -> None:
        until = self.desk.now + seconds
        while self.desk.now < until:
            self.desk.pass_by(0.25)
            for end in list(self.screen.ends):
                end.setblocking(False)
                try:
                    said = end.recv(65536)
                except OSError:
                    continue
                if answer := self.speaker.hear(said):
                    self.screen.show(answer)

    def kept(self) -> list[tuple[str, str]]:
        assert self.vm.instance_uuid is not None
        return [(line.stream, line.text) for line in last_lines(self.vm.instance_uuid)]


def test_lines_are_kept_with_stream_and_time_and_then_acknowledged(desk: Desk) -> None:
    talk = Talk(desk)
    talk.pass_by()
    talk.screen.show(
        talk.speaker.hello() + talk.speaker.say(b"out") + talk.speaker.say(b"err", "e")
    )
    talk.pass_by()
    assert talk.kept() == [("stdout", "out"), ("stderr", "err")]
    assert talk.vm.instance_uuid is not None
    written = last_lines(talk.vm.instance_uuid)[0].written_at
    assert written is not None
    assert written.timestamp() == 1_900_000_000.001
    assert talk.speaker.first == 3


def test_a_guest_that_does_not_speak_it_is_never_spoken_to(desk: Desk) -> None:
    talk = Talk(desk)
    talk.screen.show(b"plain\n")
    talk.pass_by()
    talk.screen.show(b"plain\n")
    talk.pass_by(10)
    (end,) = talk.screen.ends
    with pytest.raises(BlockingIOError):
        end.recv(1)


def test_what_a_booting_kernels_tty_echoes_of_ours_is_not_kept(desk: Desk) -> None:
    talk = Talk(desk)
    talk.pass_by()
    talk.screen.show(talk.speaker.hello())
    talk.pass_by()
    talk.screen.hang_up()
    desk.pass_by(1)
    for _ in range(120):
        desk.pass_by(0.25)
        talk.screen.show(echoed(talk.screen.said()))
    # Init takes the tty in the middle of one.
    talk.screen.show(b"^^4064e00a hello 1 94\r\n")
    talk.screen.show(b"[    1.000000] kernel^^00000000 hello 1 me\r\n")
    desk.pass_by(2)
    assert talk.kept() == [("console", "[    1.000000] kernel^^00000000 hello 1 me")]


def test_a_silent_guest_is_greeted_less_and_less_and_at_once_when_it_speaks(desk: Desk) -> None:
    talk = Talk(desk)
    talk.pass_by()
    talk.screen.show(talk.speaker.hello())
    talk.pass_by()
    talk.screen.hang_up()
    desk.pass_by(1)
    greetings = 0
    for _ in range(240):
        desk.pass_by(0.25)
        greetings += talk.screen.said().count(b"hello")
    assert 3 <= greetings <= 8
    talk.speaker = Speaker(boot="00000000000000b1")
    talk.screen.show(talk.speaker.hello())
    talk.pass_by(2)
    assert talk.speaker.asked[0][0] == "hello"


def echoed(said: bytes) -> bytes:
    """As a tty with ECHO and ECHOCTL shows it."""
    return said.replace(b"\x1e", b"^^").replace(b"\n", b"\r\n")


def test_what_is_shown_again_is_kept_once_and_what_was_missed_is_asked_for(desk: Desk) -> None:
    talk = Talk(desk, replays=True)
    talk.screen.show(talk.speaker.hello() + talk.speaker.say(b"same") + talk.speaker.say(b"same"))
    talk.screen.show(b"[    1.000000] kernel\r\n")
    talk.pass_by()
    talk.screen.hang_up()
    talk.speaker.say(b"same")
    talk.pass_by()
    assert sorted(talk.kept()) == [("console", "[    1.000000] kernel"), *[("stdout", "same")] * 3]


def test_the_next_relay_goes_on_where_the_first_was_killed(desk: Desk) -> None:
    talk = Talk(desk, replays=True)
    talk.screen.show(
        talk.speaker.hello() + talk.speaker.say(b"one") + talk.speaker.say(b"tw", goes_on=True)
    )
    talk.pass_by(1.5)
    killed = desk.relay
    desk.relays.remove(killed)  # it does nothing any more
    desk.relay._lead.give_up()
    talk.screen.hang_up()
    desk.relay = desk.another()
    talk.speaker.say(b"o")
    talk.pass_by(5)
    text = "".join(text for _, text in talk.kept())
    killed._leave()
    assert text == "onetwo"


def test_nothing_is_acknowledged_before_it_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(desk)
    talk.screen.show(talk.speaker.hello())
    talk.pass_by()
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise Unavailable("away")

        patch.setattr(relaying, "append_lines", refuse)
        talk.screen.show(talk.speaker.say(b"one"))
        talk.pass_by()
        assert talk.speaker.first == 1
    talk.pass_by(5)
    assert talk.speaker.first == 2
    assert talk.kept() == [("stdout", "one")]


def test_a_write_whose_answer_is_lost_keeps_its_lines_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(desk)
    talk.screen.show(talk.speaker.hello())
    talk.pass_by()
    with monkeypatch.context() as patch:

        def keep_and_fail(*given: Any) -> None:
            append_lines(*given)
            raise Unavailable("the answer is lost")

        patch.setattr(relaying, "append_lines", keep_and_fail)
        talk.screen.show(talk.speaker.say(b"one"))
        talk.pass_by(1)
    talk.screen.show(talk.speaker.say(b"two"))
    talk.pass_by(5)
    assert talk.kept() == [("stdout", "one"), ("stdout", "two")]


def test_what_the_guest_had_to_drop_is_told(desk: Desk) -> None:
    talk = Talk(desk)
    for number in range(5):
        talk.speaker.say(b"%d" % number)
    talk.speaker.lose(3)
    talk.pass_by()
    talk.screen.show(talk.speaker.hello())
    talk.pass_by()
    assert [text for _, text in talk.kept()] == [
        "[3 lines lost: written while nobody read them]",
        "3",
        "4",
    ]


def test_another_boot_is_told_apart_from_its_past(desk: Desk) -> None:
    talk = Talk(desk, replays=True)
    talk.screen.show(talk.speaker.hello() + talk.speaker.say(b"old"))
    talk.pass_by()
    talk.screen.hang_up()
    talk.speaker = Speaker(boot="00000000000000b1")
    talk.screen.show(talk.speaker.hello() + talk.speaker.say(b"new"))
    talk.pass_by(5)
    assert talk.kept() == [("stdout", "old"), ("stdout", "new")]


def test_one_that_writes_without_end_may_not_write_more_than_others(desk: Desk) -> None:
    talk = Talk(desk)
    for number in range(3000):
        talk.speaker.say(b"%d " % number + b"x" * 400)
    talk.pass_by()
    talk.screen.show(talk.speaker.hello())
    talk.pass_by(2)
    given_at_once = talk.speaker.limit
    assert given_at_once > 0
    assert given_at_once <= 128 * 1024 // (512 + 128) + 2 * 16 * 1024 // (512 + 128) + 1
    talk.pass_by(10)
    slow = talk.speaker.limit - given_at_once
    assert 0 < slow <= 11 * 16 * 1024 // 440


def test_what_is_forgotten_leaves_no_mark(desk: Desk) -> None:
    talk = Talk(desk)
    assert talk.vm.instance_uuid is not None
    append_lines(talk.vm.instance_uuid, [Written("x")], "mark")
    forget_lines(talk.vm.instance_uuid)
    assert last_mark(talk.vm.instance_uuid) is None


class Process(Speaker):
    """The guest's own half, behind the screen."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire

    def hear(self, data: bytes) -> bytes:
        self.wire.write(data)
        return b""


@needs_compiler
def test_a_real_guest_is_kept_once_through_reconnects_and_a_killed_relay(desk: Desk) -> None:
    talk = Talk(desk)
    wanted = [str(number) for number in range(1, 401)]
    killed = []
    with a_guest("sh", "-c", "seq 400; sleep 60") as wire:
        talk.speaker = Process(wire)
        until = time.monotonic() + 50
        for turn in itertools.count():
            assert time.monotonic() < until
            talk.pass_by(0.5)
            if data := wire.read(700):
                talk.screen.show(data)
            if turn in (5, 12, 30):
                talk.screen.hang_up()
                wire.read(300)  # lost with it
            if turn == 20:
                killed.append(desk.relay)
                desk.relays.remove(desk.relay)
                desk.relay._lead.give_up()
                desk.relay = desk.another()
            if (kept := [text for stream, text in talk.kept() if stream == "stdout"]) == wanted:
                break
            assert kept == wanted[: len(kept)]
    for relay in killed:
        relay._leave()
