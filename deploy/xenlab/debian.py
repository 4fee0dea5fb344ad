"""Fetches and unpacks Debian packages from wherever this machine's apt takes them; installs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError

SUITE = "bookworm"
FETCH = 300.0
UNPACK = 60.0


def sources() -> list[str]:
    """This machine's own Debian sources, one line each."""
    form = "$(REPO_URI)|$(RELEASE)|$(CREATED_BY)|$(ORIGIN)"
    lines = []
    for target in run(["apt-get", "indextargets", "--format", form], timeout=UNPACK).splitlines():
        uri, release, kind, origin = [*target.split("|"), "", "", "", ""][:4]
        line = f"deb {uri} {release} main"
        if kind == "Packages" and origin == "Debian" and line not in lines:
            lines.append(line)
    if not any(SUITE in line for line in lines):
        raise XenlabError(
            "no_debian_sources",
            f"apt has no lists of Debian {SUITE}: run apt-get update on a Debian {SUITE} machine",
        )
    return lines


def newest(metapackage: str, pattern: str) -> str:
    """The package that a metapackage depends on, by a pattern: `linux-image-amd64` → its kernel."""
    for line in run(["apt-cache", "depends", metapackage], timeout=UNPACK).splitlines():
        if found := re.search(rf"Depends: ({pattern})$", line):
            return found[1]
    raise XenlabError("no_package", f"apt knows no package that {metapackage} stands for")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of each package that apt would fetch."""
    shown = run(["apt-cache", "policy", *packages], timeout=UNPACK)
    found = dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", shown, re.MULTILINE))
    for package in packages:
        if found.get(package, "(none)") == "(none)":
            raise XenlabError("no_package", f"apt cannot fetch {package}: run apt-get update")
    return found


def unpacked(package: str, cache: Path) -> Path:
    """The package's files, below a folder of the cache; fetched once per version."""
    wanted = versions([package])[package]
    folder = cache / f"{package}_{wanted.replace(':', '%3a')}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{package}_*.deb"):
            old.unlink()
        run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{package}={wanted}"],
            timeout=FETCH,
            cwd=cache,
        )
        (archive,) = cache.glob(f"{package}_*.deb")
        unfinished = folder.with_suffix(".part")
        run(["rm", "-rf", unfinished], timeout=UNPACK)
        run(["dpkg-deb", "-x", archive, unfinished], timeout=UNPACK)
        unfinished.rename(folder)
        archive.unlink()
    return folder


def tree(packages: Sequence[str], folder: Path) -> None:
    """Packages with all they depend on, unpacked into a folder without running their scripts."""
    excluded = [
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")
    ]
    run(["rm", "-rf", folder], timeout=UNPACK)
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            "--format=directory",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            *excluded,
            f"--include={','.join(packages)}",
            SUITE,
            folder,
            "-",
        ],
        stdin="\n".join(sources()),
        timeout=FETCH,
        environment={"TMPDIR": str(folder.parent), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
