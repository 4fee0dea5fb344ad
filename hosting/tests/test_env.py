from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from hosting import env


@pytest.fixture(autouse=True)
def _nothing_read_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "SEEN", set())


def test_an_absent_variable_has_its_default() -> None:
    assert env.envstr("NOT_SET", "x") == "x"
    assert env.envint("NOT_SET_EITHER", 3) == 3
    assert env.envlist("NOR_THIS", ["a"]) == ["a"]


@pytest.mark.parametrize(
    ("word", "truth"), [("true", True), ("1", True), ("Off", False), ("", False)]
)
def test_a_truth_is_read(monkeypatch: pytest.MonkeyPatch, word: str, truth: bool) -> None:
    monkeypatch.setenv("SWITCH", word)
    assert env.envbool("SWITCH", not truth) is truth


def test_what_does_not_parse_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A", "B", "C"):
        monkeypatch.setenv(name, "maybe")
    with pytest.raises(ImproperlyConfigured, match="A is 'maybe'"):
        env.envbool("A", False)
    with pytest.raises(ImproperlyConfigured, match="B is 'maybe'"):
        env.envint("B", 0)
    with pytest.raises(ImproperlyConfigured, match="C is 'maybe'"):
        env.envchoice("C", ["yes", "no"], "no")


def test_a_list_is_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMES", "a, b,,c ")
    assert env.envlist("NAMES") == ["a", "b", "c"]


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hush\n")
    monkeypatch.setenv("PASSWORD_FILE", str(file))
    assert env.envsecret("PASSWORD") == "hush"


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "a")
    monkeypatch.setenv("PASSWORD_FILE", "b")
    with pytest.raises(ImproperlyConfigured, match="which one"):
        env.envsecret("PASSWORD")


def test_a_secret_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD_FILE", "/nowhere/at/all")
    with pytest.raises(ImproperlyConfigured, match="/nowhere/at/all"):
        env.envsecret("PASSWORD")


def test_a_variable_is_read_once() -> None:
    env.envstr("ONCE", "")
    with pytest.raises(ImproperlyConfigured, match="twice"):
        env.envstr("ONCE", "")
