"""Copies kernel modules with what they depend on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from deploy.xenlab.commands import run


def copy_modules(unpacked: Path, release: str, names: Sequence[str], target: Path) -> list[str]:
    """Copies modules of an unpacked kernel package below `target`.

    Gives their paths in the order to load them in. Modules built into the kernel are not in it.
    """
    base = unpacked / "lib/modules" / release
    if not (base / "modules.dep").exists():
        run(["depmod", "-b", unpacked, release], timeout=60)
    shown = run(
        ["modprobe", "-d", unpacked, "-S", release, "-a", "--show-depends", *names], timeout=30
    )
    order: list[str] = []
    for line in shown.splitlines():
        kind, _, rest = line.partition(" ")
        if kind != "insmod":
            continue
        path = Path(rest.split()[0])
        place = "/" + str(path.relative_to(unpacked))
        if place not in order:
            order.append(place)
            copy = target / place[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return order
