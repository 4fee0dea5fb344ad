"""Debian packages, fetched and unpacked without being installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

FETCH_SECONDS = 300
# Program → the Debian package that brings it.
TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "make": "make",
    "musl-gcc": "musl-tools",
    "readelf": "binutils",
    "grub-mkimage": "grub-common",
    "mkfs.fat": "dosfstools",
    "mcopy": "mtools",
    "lz4": "lz4",
}
HEADERS = {"/usr/include/jsmn.h": "libjsmn-dev", "/usr/include/linux/openat2.h": "linux-libc-dev"}


class Missing(Exception):
    """This machine lacks something to make boot files with."""


def lacking() -> list[str]:
    """The Debian packages that this machine lacks to make boot files."""
    tools = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return tools + [package for header, package in HEADERS.items() if not Path(header).exists()]


def run_binary(
    *argv: str | Path,
    given: bytes = b"",
    cwd: Path | None = None,
    seconds: float = 120,
    env: Mapping[str, str] = {},
) -> bytes:
    """What this program writes, `given` this to read. Raises Missing with its last words when it fails."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            cwd=cwd,
            env={"PATH": path, **env},
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Missing(f"{argv[0]}: {problem}") from problem
    if done.returncode:
        raise Missing(f"{argv[0]} failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    seconds: float = 120,
    env: Mapping[str, str] = {},
) -> str:
    """As run_binary, for programs that write text."""
    return run_binary(*argv, cwd=cwd, seconds=seconds, env=env).decode()


def kernel_package() -> str:
    """The package that Debian's newest cloud kernel is in now."""
    words = run("apt-cache", "depends", "linux-image-cloud-amd64")
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", words)
    if found is None:
        raise Missing("apt knows no linux-image-cloud-amd64: apt-get update")
    return found[1]


def unpack(names: Iterable[str], cache: Path) -> Path:
    """A folder with the files of these packages, in the versions that apt would install now.

    `cache` keeps what was fetched and unpacked, named by version.
    """
    shown = run("apt-cache", "show", "--no-all-versions", *names)
    files = {
        Path(line.split()[1]).name for line in shown.splitlines() if line.startswith("Filename:")
    }
    debs = cache / "debs"
    tree = cache / "tree"
    debs.mkdir(parents=True, exist_ok=True)
    marker = cache / "unpacked"
    wanted = "\n".join(sorted(files))
    if marker.exists() and marker.read_text() == wanted:
        return tree
    for old in debs.glob("*.deb"):
        old.unlink()
    run("apt-get", "--quiet", "download", *names, cwd=debs, seconds=FETCH_SECONDS)
    shutil.rmtree(tree, ignore_errors=True)
    for deb in sorted(debs.glob("*.deb")):
        run("dpkg-deb", "-x", deb, tree)
    marker.write_text(wanted)
    return tree
