import errno
from pathlib import Path

import pytest

from worker.images.errors import SpoolFull
from worker.images.spool import Spool, full_is_told


def test_a_spooled_file_has_no_name_that_could_be_left_behind(tmp_path: Path) -> None:
    with Spool(tmp_path).file() as file:
        file.write(b"layer")
        file.flush()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_told_as_such(number: int) -> None:
    with pytest.raises(SpoolFull), full_is_told():
        raise OSError(number, "no room")


def test_another_fault_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Spool(tmp_path / "none").file():
        pass
