from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
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


def test_further_accounts_get_a_password_and_keep_it(tmp_path: Path) -> None:
    arguments = ["--hosts", "1", "--port", "0", "--state", str(tmp_path / "state"), "--info"]
    account = ["--account", "clerk=read-only"]
    passwords = [info["accounts"]["clerk"] for info in twice([*arguments], account, tmp_path)]
    assert passwords[0] == passwords[1]
    assert passwords[0]["role"] == "read-only"
    assert passwords[0]["password"]


def twice(
    arguments: list[str], account: list[str], folder: Path
) -> Iterator[dict[str, dict[str, dict[str, str]]]]:
    """What a lab that is started two times writes down for its owner."""
    for number in (1, 2):
        info = folder / f"info{number}"
        command = [sys.executable, "-m", "deploy.lab", *arguments, str(info), *account]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
        yield json.loads(info.read_text())


def test_an_account_of_no_known_role_is_refused_with_those_there_are() -> None:
    result = lab("--account", "clerk=king")
    assert result.returncode == 2
    assert "vm-admin" in result.stderr


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


def test_a_lab_on_real_xen_has_to_be_told_where_its_hosts_are() -> None:
    done = lab("--backend", "xl")
    assert done.returncode == 2
    assert "--backend xl needs --xenlab" in done.stderr


def test_a_lab_on_real_xen_whose_hosts_are_not_up_says_so(tmp_path: Path) -> None:
    done = lab("--backend", "xl", "--xenlab", str(tmp_path), "--hosts", "1", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("lab: host1 is off")
