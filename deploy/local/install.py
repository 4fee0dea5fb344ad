"""Makes .venv and installs into it from a lock file, checking hashes. Standard library only.

`python deploy/local/install.py local|dev`, run by the Makefile with whatever Python the machine has. It
does nothing when the lock has not changed. uv does the installing (0.5 s from its cache, where pip takes
some 16 s); pip fetches uv, and does the installing itself where uv cannot be had.
"""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
LOCKS = ROOT / "requirements"
# `dev` holds everything of `local`, at the same versions.
SETS = {"local": ["local", "dev"], "dev": ["dev"]}


def main() -> int:
    wanted = sys.argv[1]
    began = time.monotonic()
    mark = _mark()
    if any(_stamp(name).exists() and _stamp(name).read_text() == mark for name in SETS[wanted]):
        return 0
    print(f"installing into {VENV} from requirements/{wanted}.txt …", flush=True)
    if not (VENV / "bin" / "python").exists():
        # Without pip, whose unpacking takes seconds: uv needs none.
        venv.create(VENV, symlinks=True, with_pip=False, clear=VENV.exists())
    lock = LOCKS / f"{wanted}.txt"
    if not (_install_by_uv(lock) or _install_by_pip(lock)):
        print("the installation failed; the lines above say why", file=sys.stderr)
        return 1
    _stamp(wanted).write_text(mark)
    print(f"installed in {time.monotonic() - began:.1f} s", flush=True)
    return 0


def _mark() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for lock in sorted(LOCKS.glob("*.txt")):
        digest.update(lock.read_bytes())
    return digest.hexdigest()


def _stamp(name: str) -> Path:
    return VENV / f".installed-{name}"


def _install_by_uv(lock: Path) -> bool:
    uv = _find_uv()
    if uv is None:
        return False
    command = [
        *(str(uv), "pip", "install", "--quiet", "--require-hashes", "--no-deps"),
        *("--python", str(VENV / "bin" / "python"), "--requirements", str(lock)),
    ]
    return _run(command)


def _find_uv() -> Path | None:
    """The locked uv, in .venv or fetched there by this Python's pip."""
    tools = VENV / "tools"
    for uv in (VENV / "bin" / "uv", tools / "bin" / "uv"):
        if uv.exists():
            return uv
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-compile", "--no-deps", "--require-hashes", "--target", str(tools)),
        *("--requirement", str(LOCKS / "uv.txt")),
    ]
    if not _run(command):
        print("uv is not to be had this way; going on with pip, which takes longer", flush=True)
        return None
    return tools / "bin" / "uv"


def _install_by_pip(lock: Path) -> bool:
    python = str(VENV / "bin" / "python")
    return _run([python, "-m", "ensurepip", "--default-pip"]) and _run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--requirement", str(lock)),
        ]
    )


def _run(command: list[str]) -> bool:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    return subprocess.run(command, env=environment, timeout=1800, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
