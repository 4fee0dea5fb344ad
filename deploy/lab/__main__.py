"""Run a lab: `python -m deploy.lab --hosts 4 --port 18443 --state lab.state`.

Prints one line starting with `ready` when every host serves, with what a client needs to know
as JSON behind it (`--info FILE` writes the same with the passwords in it, readable by its owner
only), and runs until SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import hashlib
import json
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from deploy.lab.lab import GIB, Config
from deploy.lab.sample_guests import make_guests
from deploy.lab.server import LabServer, start_on_a_free_port
from deploy.lab.sessions import ROLES, Account
from deploy.lab.state import StateFile, WrongState
from deploy.lab.xenopsd import Durations
from deploy.lab.xl import options as xen
from deploy.xenlab.errors import XenlabError

MOST_HOSTS = 64
"""Hosts of one pool (XAPI.md 7)."""


def main() -> int:
    options = _options(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        return asyncio.run(_run(options))
    except OSError as error:
        hint = ""
        if error.errno == errno.EADDRINUSE:
            hint = "; another lab may be running: end it, or name another --port"
        print(f"lab: {error}{hint}", file=sys.stderr)
        return 1
    except (WrongState, XenlabError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy.lab", description=__doc__)
    parser.add_argument("--hosts", type=int, default=4, help="hosts in the pool, at most 64 (4)")
    parser.add_argument("--port", type=int, default=18443, help="XAPI port at each host's address")
    parser.add_argument("--bmc-port", type=int, default=0, help="Redfish port; 0: a free one")
    parser.add_argument("--control-port", type=int, default=0, help="control API; 0: a free one")
    parser.add_argument("--state", type=Path, help="file that keeps the pool between runs")
    parser.add_argument("--info", type=Path, help="file to write addresses and passwords to")
    parser.add_argument("--password-file", type=Path, help="root's password; default: made up")
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        type=_account,
        metavar="NAME=ROLE",
        help="a further account, with a password of its own in --info; ROLE one of: "
        + ", ".join(ROLES),
    )
    parser.add_argument("--name", default="lab", help="name_label of the pool")
    parser.add_argument("--memory", type=int, default=64, help="GiB of memory per host (64)")
    parser.add_argument("--cpus", type=int, default=16, help="CPUs per host (16)")
    parser.add_argument("--rate", type=float, default=1.0, help="lab seconds per real second")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn at random")
    parser.add_argument(
        "--duration",
        action="append",
        default=[],
        type=_duration,
        metavar="NAME=SECONDS",
        help="how long something takes, of: "
        + ", ".join(f"{f.name} ({f.default:g})" for f in dataclasses.fields(Durations)),
    )
    parser.add_argument(
        "--config-disk",
        type=int,
        metavar="DEVICE",
        help="guests tell what the JSON at the start of their disk DEVICE says they run",
    )
    parser.add_argument("--sample-guests", action="store_true", help="make VMs in a fresh pool")
    xen.add_options(parser)
    parser.add_argument("--no-tls", action="store_true", help="plain HTTP, for looking inside")
    options = parser.parse_args(arguments)
    if not 1 <= options.hosts <= MOST_HOSTS:
        parser.error(f"--hosts has to be between 1 and {MOST_HOSTS}")
    xen.check_options(parser, options)
    if options.rate < 0:
        parser.error("--rate must not be negative")
    return options


def _account(text: str) -> tuple[str, str]:
    name, _, role = text.partition("=")
    if not name or name == "root" or role not in ROLES:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=ROLE, ROLE one of {', '.join(ROLES)}")
    return name, role


def _duration(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    if name not in {field.name for field in dataclasses.fields(Durations)}:
        raise argparse.ArgumentTypeError(f"there is no duration {name!r}; --help lists them")
    try:
        return name, max(0.0, float(seconds))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{seconds!r} is no number of seconds") from None


async def _run(options: argparse.Namespace) -> int:
    state = StateFile(options.state) if options.state else None
    config = Config(
        hosts=options.hosts,
        pool_name=options.name,
        cpus_per_host=options.cpus,
        memory_per_host=options.memory * GIB,
        rate=options.rate,
        seed=options.seed,
        config_disk=options.config_disk,
        port=options.port,
        bmc_port=options.bmc_port,
        control_port=options.control_port,
        durations=Durations(**dict(options.duration)),
        accounts={name: Account("", role) for name, role in options.account},
    )
    if options.backend == "xl":
        xen.use_xen(config, options)
    if password := _password(options):
        config.password = password
    server = await start_on_a_free_port(config, tls=not options.no_tls, sides=True, state=state)
    if options.sample_guests and not server.lab.is_resumed:
        await make_guests(server.lab)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    info = describe(server)
    if options.info:
        _write_privately(options.info, json.dumps(info | secrets_of(server), indent=1) + "\n")
    print("ready", json.dumps(info), flush=True)
    await stop.wait()
    await server.stop()
    return 0


def _password(options: argparse.Namespace) -> str | None:
    if options.password_file:
        return str(options.password_file.read_text(encoding="utf-8").strip())
    return None


def describe(server: LabServer) -> dict[str, Any]:
    """What may be shown: addresses and fingerprints."""
    return {
        "url": server.urls[0],
        "username": "root",
        "control": server.control_url,
        "hosts": [
            {
                "name": machine.name,
                "uuid": machine.host.uuid,
                "url": url,
                "fingerprint": _fingerprint(machine.certificate),
                "bmc": f"https://{machine.address}:{machine.bmc_port}",
            }
            for machine, url in zip(server.lab.machines.values(), server.urls, strict=True)
        ],
    }


def secrets_of(server: LabServer) -> dict[str, Any]:
    config = server.lab.config
    return {
        "password": config.password,
        "accounts": {
            name: dataclasses.asdict(account)
            for name, account in server.lab.sessions.accounts.items()
            if name != "root"
        },
        "bmc_username": config.bmc_username,
        "bmc_password": config.bmc_password,
    }


def _fingerprint(pem: str) -> str:
    """SHA-256 of the DER form, in hex; empty without TLS."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() if pem else ""


def _write_privately(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
