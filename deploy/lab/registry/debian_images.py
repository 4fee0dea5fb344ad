"""Images of programs that people run, made of Debian's packages: `python -m deploy.lab.registry.debian_images`.

`debian/NAME/recipe.json` says which packages, and how it is run; `debian/NAME/files` lies above them. Each
package and all that it depends on are fetched by apt as for an empty machine and unpacked without their
scripts; `umoci` makes an OCI layout with two layers of it. A layout is made again only when the recipe or
Debian's versions have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deploy.alone import alone

RECIPES: Final = Path(__file__).parent / "debian"
NAMES: Final = tuple(sorted(path.name for path in RECIPES.iterdir() if path.is_dir()))
TOOLS: Final = ("apt-get", "dpkg-deb", "ldconfig", "skopeo", "tar", "umoci")
TAG: Final = "latest"
WAY: Final = 1
"""Counts changes of how images are made: after one, they are made again."""
TAKES_SECONDS: Final = 600
# As Debian's usrmerge has it; packages of Debian 12 still name both.
_LINKS: Final = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_UNREAD: Final = ("doc", "info", "lintian", "locale", "man")


def default_folder() -> Path:
    """Where what was made is kept: $DEBIAN_IMAGES, or in the person's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DEBIAN_IMAGES") or Path(cache) / "bulkhead" / "debian-images")


def what_is_missing() -> str:
    """Why images cannot be made here, for whoever skips; empty when they can."""
    missing = [tool for tool in TOOLS if not _which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "only root unpacks owners as they are"


def make(name: str, folder: Path | None = None) -> Path:
    """The OCI layout of one of NAMES, its image tagged "latest". Minutes at first, then a second.

    Raises CalledProcessError, and OSError when there is no room.
    """
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    recipe: dict[str, Any] = json.loads((RECIPES / name / "recipe.json").read_text())
    with alone(folder / f"{name}.lock"):
        packages = _fetch(recipe, folder / "packages")
        layout = folder / f"{name}-{_key(name, packages)}"
        if not layout.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-new-") as new:
                _build(name, recipe, packages, Path(new))
                (Path(new) / "layout").rename(layout)
            for old in folder.glob(f"{name}-{'[0-9a-f]' * 16}"):
                if old != layout:
                    shutil.rmtree(old)
    return layout


def push(layout: Path, target: str, *options: str, tag: str = TAG) -> None:
    """To "127.0.0.1:5000/nginx:latest", in plain HTTP; `options` are skopeo's, e.g. `--dest-creds=`."""
    source = f"oci:{layout}:{tag}"
    skopeo = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options]
    _run(*skopeo, source, f"docker://{target}")


def load(layout: Path, folder: Path) -> Path:
    """The image's files, unpacked by umoci into the new `folder`: for looks at them."""
    _run("umoci", "unpack", "--image", f"{layout}:{TAG}", str(folder))
    return folder / "rootfs"


# ------------------------------------------------------------------------------------------------ packages


def _fetch(recipe: dict[str, Any], folder: Path) -> list[Path]:
    """The packages and all they need, by apt, as for a machine that has none."""
    (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    status = folder / "status"
    status.touch()
    apt = ["apt-get", "-qq", "-y", "-o", f"Dir::State::status={status}"]
    apt += ["-o", f"Dir::Cache={folder}", "-o", "Dir::Cache::archives=archives"]
    apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Install-Recommends=false"]
    apt += ["-o", "APT::Sandbox::User=root"]
    wanted = ["install", *recipe["packages"]]
    with alone(folder / "lock"):
        # Asked with an empty cache first: apt names only what it has yet to fetch.
        said = _run(*apt, "-o", "Dir::Cache::archives=nowhere", "--print-uris", *wanted)
        _run(*apt, "--download-only", *wanted)
    names = [line.split()[1] for line in said.splitlines() if line.startswith("'")]
    left_out = tuple(f"{one}_" for one in recipe.get("without", []))
    return [folder / "archives" / name for name in sorted(names) if not name.startswith(left_out)]


def _key(name: str, packages: list[Path]) -> str:
    check = hashlib.sha256(f"made in way {WAY}".encode())
    for path in sorted((RECIPES / name).rglob("*")):
        if path.is_file():
            check.update(f"{path.relative_to(RECIPES)} {path.stat().st_mode & 0o111}".encode())
            check.update(path.read_bytes())
    check.update("\n".join(path.name for path in packages).encode())
    return check.hexdigest()[:16]


# -------------------------------------------------------------------------------------------------- images


def _build(name: str, recipe: dict[str, Any], packages: list[Path], new: Path) -> None:
    image, bundle = f"{new / 'layout'}:{TAG}", new / "bundle"
    _run("umoci", "init", "--layout", str(new / "layout"))
    _run("umoci", "new", "--image", image)
    _run("umoci", "unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    _unpack(packages, root)
    _run("umoci", "repack", "--refresh-bundle", "--image", image, str(bundle))
    _finish(RECIPES / name / "files", recipe, root)
    _run("umoci", "repack", "--image", image, str(bundle))
    _run("umoci", "config", "--image", image, *_how_to_run(recipe["config"]))
    _run("umoci", "gc", "--layout", str(new / "layout"))


def _unpack(packages: list[Path], root: Path) -> None:
    for link in _LINKS:
        (root / "usr" / link).mkdir(parents=True)
        (root / link).symlink_to(f"usr/{link}")
    for folder in ("dev", "proc", "sys", "run", "root", "tmp", "var/tmp", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    for package in packages:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as archive:
            tar = [
                "tar",
                "-x",
                "-p",
                "--numeric-owner",
                "--keep-directory-symlink",
                "-C",
                str(root),
            ]
            subprocess.run(tar, stdin=archive.stdout, check=True, timeout=TAKES_SECONDS)
        if archive.returncode:
            raise subprocess.CalledProcessError(archive.returncode, archive.args)
    for unread in _UNREAD:
        shutil.rmtree(root / "usr/share" / unread, ignore_errors=True)
    _run("ldconfig", "-r", str(root))


def _finish(files: Path, recipe: dict[str, Any], root: Path) -> None:
    """What the packages' own scripts would have done, as far as the recipe says."""
    busybox = root / "bin/busybox"
    for command in _run(str(busybox), "--list").split() if busybox.exists() else []:
        places = [root / "usr/bin" / command, root / "usr/sbin" / command]
        if not any(os.path.lexists(place) for place in places):
            places[0].symlink_to("busybox")
    users = {"root": 0, **recipe.get("users", {})}
    lines = [
        f"{user}:x:{uid}:{uid}::/{'' if uid else 'root'}:/bin/sh\n" for user, uid in users.items()
    ]
    (root / "etc/passwd").write_text("".join(lines))
    lines = [f"{user}:x:{uid}:\n" for user, uid in users.items()]
    (root / "etc/group").write_text("".join(lines))
    if files.exists():
        shutil.copytree(files, root, dirs_exist_ok=True, symlinks=True)
    for target, source in recipe.get("links", {}).items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / target).symlink_to(source)
    for path, user in recipe.get("folders", {}).items():
        (root / path).mkdir(parents=True, exist_ok=True)
        os.chown(root / path, users[user], users[user])


def _how_to_run(config: dict[str, Any]) -> Iterator[str]:
    """umoci's options for an OCI configuration."""
    yield from ("--architecture", _run("dpkg", "--print-architecture").strip(), "--os", "linux")
    for name, value in config.items():
        for one in value if isinstance(value, list) else [value]:
            yield from (f"--config.{name.lower()}", one)


# --------------------------------------------------------------------------------------------------- tools


def _run(*command: str) -> str:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=TAKES_SECONDS,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stdout


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy.lab.registry.debian_images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (all)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="%(default)s")
    parser.add_argument("--registry", help="push them there too, in plain HTTP: 127.0.0.1:5000")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no recipe for {', '.join(sorted(unknown))}")
    if why := what_is_missing():
        print(f"debian_images: {why}", file=sys.stderr)
        return 1
    for name in options.names or NAMES:
        layout = make(name, options.folder)
        print(name, layout, flush=True)
        if options.registry:
            push(layout, f"{options.registry}/{name}:{TAG}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
