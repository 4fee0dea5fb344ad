"""Where layers lie while a disk is made of them: files without a name.

The kernel takes such a file back when it is closed, or when its process dies, however it dies. So nothing is
ever left behind, and nobody has to sweep.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from worker.images.errors import SpoolFull


class Spool:
    """A folder on our own disk with room for the layers, packed and unpacked, and the disk."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        """A new, empty file to write and read. Raises SpoolFull, also for a write within the `with`."""
        with full_is_told(), tempfile.TemporaryFile(dir=self.folder) as file:
            yield cast("BinaryIO", file)


@contextmanager
def full_is_told() -> Iterator[None]:
    """Turn "no space left" into SpoolFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpoolFull from error
        raise


def private_folder(path: Path) -> Path:
    """Made when it is absent. Raises PermissionError when others could write there, OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = path.lstat()
    if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.geteuid() or told.st_mode & 0o022:
        raise PermissionError(f"{path} is not a folder that only we can write")
    return path
