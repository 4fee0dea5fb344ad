import io

import pytest

from deploy.demo.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    Console(terminal).says("web", "hello")
    assert terminal.getvalue().startswith("\x1b[")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    Console(terminal).says("web", "hello")
    assert terminal.getvalue() == "       web │ hello\n"


def test_a_file_gets_plain_text() -> None:
    file = io.StringIO()
    Console(file).complain("oh")
    assert file.getvalue() == "           │ oh\n"


def test_a_reader_that_left_is_no_reason_to_fall_over() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    console = Console(Gone())
    console.note("nobody hears this")
    console.note("nor this")
