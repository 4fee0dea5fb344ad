"""The parts of the guest's console that need no tty: its window, and its parser against any bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[1]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
PARTS = ["frame", "request", "channel", "console", "sources", "execs", "asks"]


def run(*command: str, seconds: int = 100) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")
def test_the_window_gives_back_what_was_put_into_it(tmp_path: Path) -> None:
    program = str(tmp_path / "channel_check")
    sources = [str(GUEST / "channel.c"), str(GUEST / "tests" / "channel_check.c")]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run("gcc", *STRICT, "-g", "-O1", *checks, *sources, "-o", program)
    for seed in range(5):
        run(program, str(seed))


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is missing")
def test_no_bytes_lead_the_parser_astray(tmp_path: Path) -> None:
    """A bounded run of the fuzzer on the committed corpus; `-max_total_time` by hand goes deeper."""
    program, found = str(tmp_path / "fuzz_request"), tmp_path / "found"
    found.mkdir()
    sources = [str(GUEST / f"{part}.c") for part in ("frame", "request")]
    checks = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    sources.append(str(GUEST / "tests" / "fuzz_request.c"))
    try:
        run("clang", *STRICT, "-g", "-O1", *checks, *sources, "-o", program)
    except AssertionError as error:
        if "libclang_rt" in str(error):
            pytest.skip("clang has no run-time library for its checks")
        raise
    artifacts = f"-artifact_prefix={tmp_path}/"
    limits = ["-runs=30000", "-max_total_time=20", "-max_len=2048", "-seed=1"]
    run(program, *limits, artifacts, str(found), str(GUEST / "tests" / "corpus"))


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-gcc is missing")
def test_it_compiles_against_musl_without_a_warning(tmp_path: Path) -> None:
    for part in PARTS:
        out = str(tmp_path / f"{part}.o")
        run("musl-gcc", *STRICT, "-Os", "-c", str(GUEST / f"{part}.c"), "-o", out)
