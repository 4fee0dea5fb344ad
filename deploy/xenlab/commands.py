"""Runs programs, always with a time limit, and says what they said when they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.xenlab.errors import XenlabError


def run(
    command: Sequence[str | Path],
    *,
    timeout: float,
    stdin: str = "",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The program's standard output; `timeout` in seconds.

    Raises XenlabError: `program_missing`, `program_failed` or `program_hung`.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            env=environment,
            check=False,
        )
    except FileNotFoundError as missing:
        raise XenlabError("program_missing", f"{words[0]} is not installed") from missing
    except subprocess.TimeoutExpired as hung:
        raise XenlabError(
            "program_hung", f"`{' '.join(words)}` took more than {timeout:.0f} s"
        ) from hung
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise XenlabError("program_failed", f"`{' '.join(words)}` failed: {said}")
    return done.stdout
