from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def lab(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.lab", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_lab_says_where_it_is_keeps_its_passwords_to_its_owner_and_ends_when_told(
    tmp_path: Path,
) -> None:
    info = tmp_path / "lab.json"
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.lab", "--hosts", "2", "--port", "0", "--info", str(info)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        word, _, said = process.stdout.readline().partition(" ")
        process.terminate()
        assert process.wait(30) == 0
    kept = json.loads(info.read_text())
    assert word == "ready"
    assert len(json.loads(said)["hosts"]) == 2
    assert "password" not in json.loads(said)
    assert kept["password"]
    assert info.stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.64.1", 0))
        taken.listen()
        result = lab("--hosts", "1", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "127.0.64.1" in result.stderr
    assert "--port" in result.stderr


def test_more_hosts_than_a_pool_may_have_are_refused() -> None:
    result = lab("--hosts", "65")
    assert result.returncode == 2
    assert "between 1 and 64" in result.stderr


def test_a_state_that_is_none_is_refused_in_a_line(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("not a database, but long enough to be taken for one" * 30)
    result = lab("--state", str(notes), "--port", "0")
    assert result.returncode == 1
    assert "Name another file" in result.stderr
    assert "Traceback" not in result.stderr
