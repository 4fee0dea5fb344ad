"""The whole of it, once: up, with containers running, and away without a trace."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
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


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that PostgreSQL, run as nobody by root, may pass through."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-demo-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def demonstration(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_TESTS}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "deploy.demo", "--folder", str(folder), "up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def lines_until(process: "subprocess.Popen[str]", end: str) -> str:
    """What it says up to a line with `end` in it. Fails with all of it when it ends before."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if end in line:
            return said
    pytest.fail(f"it ended:\n{said}")


def processes_of(session: int) -> list[str]:
    """What is left of all that was started in that session."""
    left = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = status.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if int(fields.split()[3]) == session and fields.split()[0] != "Z":
            left.append(name)
    return left


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_comes_up_with_containers_running_and_leaves_nothing(
    demonstration: "subprocess.Popen[str]",
) -> None:
    said = lines_until(demonstration, "Ctrl-C stops everything")
    assert "with 6 containers running" in said, said
    (token,) = set(re.findall(r"Bearer (bh_[\w-]+)", said))
    (address,) = re.findall(r"(http://\S+/api/v1/tenants/harbor/containers)", said)
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found = json.load(answer)["results"]
    assert {one["name"]: one["status"] for one in found} == dict.fromkeys(
        ["cargo", "front", "tides"], "running"
    )
    demonstration.send_signal(signal.SIGINT)
    lines_until(demonstration, "nothing is left running")
    assert demonstration.wait(30) == 0
    assert processes_of(demonstration.pid) == []
