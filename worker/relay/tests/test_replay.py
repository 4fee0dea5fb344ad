"""A console that is opened again may show again what it showed before."""

from __future__ import annotations

from worker.relay.replay import unseen

STORY = [f"line {number}: something happened" for number in range(300)]


def test_what_was_kept_is_not_kept_again() -> None:
    assert unseen(STORY[:200], STORY[:150]) == STORY[150:200]
    assert unseen(STORY, STORY) == []


def test_the_first_line_may_have_lost_its_head() -> None:
    assert unseen([STORY[50][5:], *STORY[51:120]], STORY[:100]) == STORY[100:120]


def test_more_may_be_shown_than_is_kept() -> None:
    assert unseen(STORY, STORY[100:200]) == STORY[200:]


def test_a_console_that_shows_nothing_again_loses_nothing() -> None:
    assert unseen(STORY[200:], STORY[:200]) == STORY[200:]


def test_of_what_nothing_was_kept_all_is_new() -> None:
    assert unseen(STORY, []) == STORY
    assert unseen([], STORY) == []


def test_a_line_that_was_told_in_two_parts_is_known_as_one() -> None:
    kept = [*STORY[:10], "slow", "ly"]
    assert unseen([*STORY[:10], "slowly", "next"], kept) == ["next"]
    assert unseen([*STORY[:10], "slowly and further"], kept) == [" and further"]


def test_an_old_difference_does_not_matter() -> None:
    kept = ["10%", *STORY[:100]]
    assert unseen(["100%", *STORY[:110]], kept) == STORY[100:110]
