"""Renews requirements/*.txt: exact versions with hashes, the same on every platform and Python we allow.

`python deploy/local/lock.py [--upgrade]`. Standard library and the locked uv only.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = "# Made by `make lock` from pyproject.toml; do not edit.\n"
UV = Path(sys.executable).parent / "uv"


def main() -> None:
    # The widest set first: the narrower ones are parts of it.
    _compile("dev", ["--extra", "local", "--extra", "dev", *sys.argv[1:]])
    within = ["--constraint", "requirements/dev.txt"]
    _compile("local", ["--extra", "local", *within])
    _compile("main", within)
    _lock_uv()


def _compile(name: str, arguments: list[str]) -> None:
    target = Path("requirements", f"{name}.txt")
    command = [
        *(str(UV), "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
        *("--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-annotate"),
        *(*arguments, "--output-file", str(target), "pyproject.toml"),
    ]
    subprocess.run(command, cwd=ROOT, timeout=600, check=True)
    path = ROOT / target
    path.write_text(HEAD + path.read_text(encoding="utf-8"), encoding="utf-8")


def _lock_uv() -> None:
    """uv's own lines apart: the installer fetches it before anything else."""
    blocks = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").split("\n")
    start = next(number for number, line in enumerate(blocks) if line.startswith("uv=="))
    end = start
    while blocks[end].endswith("\\"):
        end += 1
    text = "\n".join(blocks[start : end + 1]) + "\n"
    (ROOT / "requirements" / "uv.txt").write_text(HEAD + text, encoding="utf-8")


if __name__ == "__main__":
    main()
