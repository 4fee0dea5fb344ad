"""The demonstration's folder, .demo/: data, secrets, and the lock that keeps it to one at a time."""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".demo"
# A socket's address holds 107 characters, ours end in "/.s.PGSQL.5432".
_LONGEST_SOCKET_FOLDER = 90
# No signs: a person selects it with a double click, a command line takes it for no option.
_LETTERS = string.ascii_letters + string.digits


class InUse(Exception):
    """Another demonstration runs in this folder."""


class Place:
    """Everything a demonstration keeps."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Ours alone inside the block, even when we are killed inside it. Raises InUse."""
        self.folder.mkdir(mode=0o711, exist_ok=True)
        with self.path("lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InUse(file.read().strip() or "?") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def path(self, name: str) -> Path:
        return self.folder / name

    def secret(self, name: str, characters: int = 20) -> str:
        """Random letters and digits, made at the first request and kept, readable by us alone."""
        value = self.kept(name)
        if value is None:
            value = "".join(secrets.choice(_LETTERS) for _ in range(characters))
            self.keep(name, value)
        return value

    def keep(self, name: str, text: str) -> None:
        """Write `text` down, readable by us alone; never half of it."""
        fresh = self.path(f"{name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        fresh.replace(self.path(name))

    def kept(self, name: str) -> str | None:
        """What was written down under `name`."""
        try:
            return self.path(name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def ports(self, wanted: dict[str, tuple[str, int]]) -> dict[str, int]:
        """A free port for each name: last time's, else the wanted (address, port) or one soon after it, else any."""
        return {
            name: _port(self._listener(name, address, port, listening=False))
            for name, (address, port) in wanted.items()
        }

    def listener(self, name: str, address: str, port: int) -> socket.socket:
        """A socket that listens on such a port, so that nobody else can take it any more."""
        return self._listener(name, address, port, listening=True)

    def _listener(self, name: str, address: str, port: int, *, listening: bool) -> socket.socket:
        file = self.path(f"port-{name}")
        wishes = [*range(port, port + 10), 0] if port else [0]
        with contextlib.suppress(FileNotFoundError, ValueError):
            wishes.insert(0, int(file.read_text(encoding="utf-8")))
        for wish in wishes:
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                line.bind((address, wish))
                if listening:
                    line.listen(128)
            except OSError:
                line.close()
            else:
                file.write_text(str(line.getsockname()[1]), encoding="utf-8")
                return line
        raise OSError(f"no free port on {address}")

    @contextmanager
    def sockets(self) -> Iterator[Path]:
        """A folder for sockets whose path is short enough for the kernel."""
        folder = self.path("run")
        if len(str(folder)) > _LONGEST_SOCKET_FOLDER:
            folder = Path("/tmp") / f"bulkhead-demo-{os.getuid()}-{os.getpid()}"
        folder.mkdir(mode=0o711, exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _port(line: socket.socket) -> int:
    """Its port, which is given back."""
    with line:
        return int(line.getsockname()[1])
