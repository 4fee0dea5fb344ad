"""manage.py set_warm POOL [--vcpus 1] --memory 128MiB [--disk 1GiB] --count 2"""

import re
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hosting.compute.services import MIB, Sizes
from hosting.errors import InvalidRequest
from hosting.fleet.models import Pool
from hosting.warm.services import set_warm

_UNITS = {"MiB": 2**20, "GiB": 2**30}


class Command(BaseCommand):
    """They are made, and unmade, within seconds, a few at a time on each host."""

    help = (
        "Say how many VMs of one size each host of a pool keeps booted for containers to start in."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", help="what we call it")
        parser.add_argument("--vcpus", type=int, default=1, help="of each; 1 if not given")
        parser.add_argument("--memory", required=True, help='of each: "128MiB", "1GiB"')
        parser.add_argument(
            "--disk",
            default=f"{Sizes().disk_bytes // MIB}MiB",
            help="of each; what containers have that do not say, if not given",
        )
        parser.add_argument("--count", type=int, required=True, help="on each host; 0: none")

    def handle(self, *args: Any, **options: Any) -> None:
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            raise CommandError(f"there is no pool {options['pool']!r}")
        try:
            set_warm(
                pool,
                Sizes(options["vcpus"], _bytes(options["memory"]), _bytes(options["disk"])),
                count=options["count"],
                actor="system:set_warm",
            )
        except InvalidRequest as refusal:
            raise CommandError(str(refusal)) from refusal


def _bytes(said: str) -> int:
    match = re.fullmatch(r"(\d{1,7})\s*(MiB|GiB)", said)
    if match is None:
        raise CommandError(f'{said!r} is no size: "128MiB", "1GiB"')
    return int(match[1]) * _UNITS[match[2]]
