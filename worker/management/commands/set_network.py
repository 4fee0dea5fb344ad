"""manage.py set_network POOL DEVICE [--vlans 1000-1799] | --none"""

import re
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hosting.errors import InvalidRequest
from hosting.fleet.models import Pool
from hosting.fleet.services import set_network
from worker.connections import Connections
from worker.hypervisor.port import Hypervisor, HypervisorError


class Command(BaseCommand):
    """The pool is asked before anything is written. Networks that are there stay where they are."""

    help = (
        "Say which interface of a pool's hosts carries tenants' networks, and by which VLAN tags."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", help="what we call it")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--device", help='as XAPI calls it: "eth1"')
        which.add_argument(
            "--none", action="store_true", help="containers made from now on get no network"
        )
        parser.add_argument(
            "--vlans",
            help="tags that nobody else uses on it, e.g. 1000-1799; not given: as they are",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            raise CommandError(f"there is no pool {options['pool']!r}")
        device = "" if options["none"] else options["device"]
        first, last = (
            _tags(options["vlans"]) if options["vlans"] else (pool.vlan_first, pool.vlan_last)
        )
        if device:
            self._must_be_there(pool, device)
        try:
            set_network(pool, device, first=first, last=last, actor="system:set_network")
        except InvalidRequest as refusal:
            raise CommandError(str(refusal)) from refusal

    def connect(self, pool: Pool) -> Hypervisor:
        return Connections().of(pool)

    def _must_be_there(self, pool: Pool, device: str) -> None:
        try:
            there = {pif.device for pif in self.connect(pool).pifs() if pif.vlan == -1}
        except HypervisorError as error:
            raise CommandError(f"the pool does not answer: {error}") from error
        if device not in there:
            known = ", ".join(sorted(there)) or "none"
            raise CommandError(f"no host of the pool has an interface {device!r}: there is {known}")


def _tags(said: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})-(\d{1,4})", said)
    if match is None:
        raise CommandError(f'{said!r} is no range of VLAN tags: "1000-1799"')
    return int(match[1]), int(match[2])
