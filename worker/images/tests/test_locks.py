import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from worker.images.deadline import Deadline
from worker.images.errors import TookTooLong
from worker.images.locks import Locks

NOW = timedelta(seconds=0.05)
LONG = timedelta(seconds=30)


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(tmp_path / "made" / "locks")


def test_a_name_is_held_by_one(locks: Locks) -> None:
    with locks.held("a", Deadline(LONG)):
        with pytest.raises(TookTooLong), locks.held("a", Deadline(NOW)):
            pass
        with locks.held("b", Deadline(NOW)):
            pass
    with locks.held("a", Deadline(NOW)):
        pass


def test_as_many_as_there_are_places(locks: Locks) -> None:
    with (
        locks.one_of("a", 2, Deadline(LONG)),
        locks.one_of("a", 2, Deadline(NOW)),
        pytest.raises(TookTooLong),
        locks.one_of("a", 2, Deadline(NOW)),
    ):
        pass


def test_another_thread_waits_until_it_is_free(locks: Locks) -> None:
    order: list[str] = []

    def second() -> None:
        with locks.held("a", Deadline(LONG)):
            order.append("second")

    with locks.held("a", Deadline(LONG)):
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_a_process_that_dies_gives_its_lock_back(locks: Locks, tmp_path: Path) -> None:
    program = (
        "import sys, datetime, pathlib\n"
        "from worker.images.locks import Locks\n"
        "from worker.images.deadline import Deadline\n"
        "with Locks(pathlib.Path(sys.argv[1])).held('a', Deadline(datetime.timedelta(minutes=1))):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "made" / "locks")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TookTooLong), locks.held("a", Deadline(NOW)):
            pass
        process.kill()
        process.wait(10)
        with locks.held("a", Deadline(LONG)):
            pass


def test_no_name_leaves_anything_behind(locks: Locks, tmp_path: Path) -> None:
    for name in range(100):
        with locks.held(str(name), Deadline(LONG)):
            pass
    assert [(file.name, file.stat().st_size) for file in (tmp_path / "made").iterdir()] == [
        ("locks", 0)
    ]
