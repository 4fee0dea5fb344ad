"""Run the registry: `python -m deploy.lab.registry --port 18500`.

Prints one line starting with `ready`, with what a client needs to know as JSON behind it, and runs until
SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from deploy.lab.registry import debian_images
from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import Store, demonstration
from deploy.lab.registry.server import serving


def main() -> int:
    options = _options(sys.argv[1:])
    # Before anything is started, so that no signal finds nobody.
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        registry = Registry(_store(options), _access(options))
        with serving(
            registry, address=options.address, port=options.port, certificate=options.certificate
        ) as authority:
            print("ready", json.dumps(describe(registry, authority)), flush=True)
            signal.sigwait(stops)
    except (OSError, ValueError) as error:
        print(f"registry: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy.lab.registry", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--address", default="127.0.0.1", help="to listen at (127.0.0.1)")
    parser.add_argument(
        "--password-file", type=Path, help="one line, name:password; without it anybody may pull"
    )
    parser.add_argument(
        "--auth", choices=("token", "basic"), default="token", help="how the password is asked for"
    )
    parser.add_argument("--certificate", type=Path, help="PEM with key and certificate: serve TLS")
    parser.add_argument(
        "--debian",
        action="append",
        choices=debian_images.NAMES,
        help="instead of the two: a program of Debian's; as often as there shall be images",
    )
    return parser.parse_args(arguments)


def _store(options: argparse.Namespace) -> Store:
    if not options.debian:
        return demonstration()
    store = Store()
    for name in options.debian:
        store.add_layout(name, debian_images.make(name), tag=debian_images.TAG)
    return store


def _access(options: argparse.Namespace) -> Access:
    if options.password_file is None:
        return Access()
    line = options.password_file.read_text(encoding="utf-8").strip()
    name, colon, password = line.partition(":")
    if not (name and colon and password):
        raise ValueError(f"{options.password_file} does not hold name:password")
    return Access(options.auth, name, password)


def describe(registry: Registry, authority: str) -> dict[str, object]:
    """What may be shown."""
    store = registry.store
    return {
        "registry": authority,
        "images": [
            f"{authority}/{name}:{tag}" for name in store.repositories() for tag in store.tags(name)
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
