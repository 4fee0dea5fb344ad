"""`python -m deploy.xenlab up|down|status|save|console`: the lab's machines from a terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from deploy.xenlab.console import attach
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.lab import XenLab
from deploy.xenlab.plan import plan

ROOT = Path(__file__).resolve().parents[2]
GUEST_BOOT = ROOT / "deploy/guest/out"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    try:
        lab = XenLab(
            plan(options.state, name=options.name, hosts=options.hosts, memory=options.memory)
        )
        _do(lab, options)
    except XenlabError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


def _do(lab: XenLab, options: argparse.Namespace) -> None:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{what} ({time.monotonic() - began:.1f} s)", flush=True)

    match options.command:
        case "up":
            if lab.build(options.boot):
                say("built the hosts' image")
            lab.up(saved=not options.boot_afresh)
            say(f"{len(lab.machines)} hosts are up")
            for machine in lab.machines:
                print(
                    f"  {machine.host.name}  {machine.host.address}  namespace {lab.plan.namespace}"
                )
        case "save":
            lab.save()
            say("saved: the next `up` starts from here")
        case "down":
            lab.down()
            say("nothing is left running")
        case "status":
            print(json.dumps(lab.status(), indent=2))
        case "console":
            attach(lab, options.host, options.domain)


def _guest_boot() -> Path | None:
    """What `make guest` made, when it did."""
    return GUEST_BOOT if (GUEST_BOOT / "version").exists() else None


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.xenlab", description=__doc__)
    parser.add_argument(
        "--state", type=Path, default=ROOT / ".xenlab", help="folder of images and labs"
    )
    parser.add_argument("--name", default="lab", help="several labs may run side by side")
    parser.add_argument("--hosts", type=int, help="2 when the lab is new")
    parser.add_argument("--memory", type=int, default=1536, help="MiB of memory of each host")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build what is missing and start the hosts")
    up.add_argument(
        "--boot", type=Path, default=_guest_boot(), help="boot files, to lie in dom0's /boot/guest"
    )
    up.add_argument("--boot-afresh", action="store_true", help="do not start from saved states")
    commands.add_parser("down", help="stop everything and remove it")
    commands.add_parser("status", help="what runs, as JSON")
    commands.add_parser("save", help="keep the running hosts' states for quick starts")
    console = commands.add_parser("console", help="a host's serial log, or a domain's console")
    console.add_argument("host", help="host1, host2 …")
    console.add_argument("domain", nargs="?", help="a domain's uuid")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
