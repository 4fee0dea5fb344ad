"""A demonstration as a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.demo.place import ROOT

# What names servers and settings of the test run itself.
_OF_THE_TESTS = (
    "BROKER_URL",
    "DATABASE_URL",
    "DEMO_BEGAN",
    "DJANGO_SETTINGS_MODULE",
    "ENVIRONMENT",
    "REDIS_URL",
    "SECRET_KEY",
    "XAPI_URL",
)


@dataclass
class Demo:
    """What it says is read all the time, and kept."""

    process: subprocess.Popen[str]
    folder: Path
    lines: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        port = (self.folder / "port-web").read_text(encoding="utf-8")
        return f"http://127.0.0.1:{port}"

    def secret(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8").strip()

    def told(self, variable: str) -> str:
        """Of the environment of its processes."""
        words = shlex.split((self.folder / "environment").read_text(encoding="utf-8"))
        return dict(word.split("=", 1) for word in words)[variable]

    def until(self, words: str, seconds: float = 240) -> str:
        """What it said up to a line with `words` in it. Fails with all of it when it ends before."""
        with self._news:
            self._news.wait_for(
                lambda: (
                    any(words in line for line in self.lines) or self.process.poll() is not None
                ),
                seconds,
            )
            said = "".join(self.lines)
        if words not in said:
            pytest.fail(f"it did not say {words!r}:\n{said}")
        return said

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@contextmanager
def demonstration(*options: str, **environment: str) -> Iterator[Demo]:
    """One that is up or coming up, with these options; killed with all that it started when the block ends."""
    # PostgreSQL, run as nobody by root, must pass through the folder.
    with tempfile.TemporaryDirectory(prefix="bulkhead-demo-") as name:
        Path(name).chmod(0o711)
        kept = {name: value for name, value in os.environ.items() if name not in _OF_THE_TESTS}
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "deploy.demo", "--folder", name, *options, "up"],
            cwd=ROOT,
            env={**kept, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        demo = Demo(process, Path(name))
        ear = threading.Thread(target=demo.listen, name="ear", daemon=True)
        ear.start()
        try:
            yield demo
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
            ear.join(30)
            assert process.stdout is not None
            process.stdout.close()
