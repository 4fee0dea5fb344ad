"""Power without a hypervisor: what is asked of processes and control sockets."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.xenlab import needs
from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.lab import XenLab, await_agent
from deploy.xenlab.machine import Machine
from deploy.xenlab.plan import LabPlan, plan
from deploy.xenlab.qmp import Qmp


@pytest.fixture
def lab_plan(tmp_path: Path) -> LabPlan:
    made = plan(tmp_path, name="never-up")
    made.folder.mkdir(parents=True)
    return made


def test_a_number_that_another_process_has_now_is_no_host(lab_plan: LabPlan) -> None:
    host = lab_plan.hosts[0]
    host.pid_file.write_text(str(os.getpid()))
    assert not Machine(lab_plan, host).is_on()


def test_a_host_that_does_not_come_up_says_what_its_serial_port_said(lab_plan: LabPlan) -> None:
    host = lab_plan.hosts[0]
    host.serial_log.write_text("booting\nXENLAB-FAILED no root disk\n")
    with pytest.raises(XenlabError, match="no root disk") as failed:
        await_agent(Machine(lab_plan, host), timeout=0)
    assert failed.value.code == "host_not_up"


def test_down_of_a_lab_that_is_not_up_is_no_error(lab_plan: LabPlan) -> None:
    XenLab(lab_plan).down()
    assert not lab_plan.folder.exists()


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(needs.PROGRAMS, "no-such-program-anywhere", "some-package")
    assert "some-package" in needs.missing_packages()
    with pytest.raises(XenlabError, match=r"apt-get install .*some-package") as refused:
        needs.check()
    assert refused.value.code == "lab_impossible"


def test_a_program_that_hangs_or_fails_is_told_with_its_words() -> None:
    with pytest.raises(XenlabError) as hung:
        run(["sleep", "60"], timeout=0.05)
    assert hung.value.code == "program_hung"
    with pytest.raises(XenlabError, match="no good") as failed:
        run(["sh", "-c", "echo no good >&2; exit 3"], timeout=10)
    assert failed.value.code == "program_failed"
    with pytest.raises(XenlabError) as missing:
        run(["no-such-program-anywhere"], timeout=10)
    assert missing.value.code == "program_missing"


@contextmanager
def qemu(path: Path, answers: list[list[dict[str, Any]]]) -> Iterator[list[str]]:
    """A control socket that answers each command with the lines given; what it was asked."""
    asked: list[str] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as file:
            file.write(b'{"QMP": {}}\n')
            file.flush()
            for lines in [[{"return": {}}], *answers]:
                asked.append(json.loads(file.readline())["execute"])
                for line in lines:
                    file.write(json.dumps(line).encode() + b"\n")
                file.flush()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(10)


def test_events_between_command_and_answer_are_passed_over(tmp_path: Path) -> None:
    answers: list[list[dict[str, Any]]] = [[{"event": "STOP"}, {"return": {"status": "paused"}}]]
    with qemu(tmp_path / "qmp", answers) as asked, Qmp(tmp_path / "qmp") as control:
        assert control.call("query-status") == {"status": "paused"}
    assert asked == ["qmp_capabilities", "query-status"]


def test_a_refusal_has_qemus_words(tmp_path: Path) -> None:
    answers: list[list[dict[str, Any]]] = [[{"error": {"desc": "no such command"}}]]
    with (
        qemu(tmp_path / "qmp", answers),
        Qmp(tmp_path / "qmp") as control,
        pytest.raises(XenlabError, match="no such command") as refused,
    ):
        control.call("nonsense")
    assert refused.value.code == "host_refused"


def test_a_state_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    answers = [[{"return": {"status": "active"}}], [{"return": {"status": "failed"}}]]
    with (
        qemu(tmp_path / "qmp", answers),
        Qmp(tmp_path / "qmp") as control,
        pytest.raises(XenlabError) as failed,
    ):
        control.await_migration(timeout=10)
    assert failed.value.code == "state_failed"


def test_a_machine_without_a_control_socket_is_silent(tmp_path: Path) -> None:
    with pytest.raises(XenlabError) as silent:
        Qmp(tmp_path / "none")
    assert silent.value.code == "host_silent"
