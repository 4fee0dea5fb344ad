"""manage.py set_boot POOL bios|uefi|pvh|pv [--kernel … --ramdisk … --cmdline …]"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hosting.errors import InvalidRequest
from hosting.fleet.choices import DIRECT_BOOTS, BootMode
from hosting.fleet.models import Pool
from hosting.fleet.services import set_boot

DEFAULT_ARGS = "console=hvc0 panic=1 net.ifnames=0 quiet"


class Command(BaseCommand):
    """VMs that are there already keep booting as they were made."""

    help = "Say how the VMs of a pool boot."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", help="what we call it")
        parser.add_argument("mode", choices=BootMode.values)
        parser.add_argument("--kernel", default="", help="its path on every host")
        parser.add_argument("--ramdisk", default="", help="its path on every host")
        parser.add_argument("--cmdline", default=None, help=f'"{DEFAULT_ARGS}" if not given')

    def handle(self, *args: Any, **options: Any) -> None:
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            raise CommandError(f"there is no pool {options['pool']!r}")
        mode = BootMode(options["mode"])
        said = options["cmdline"]
        try:
            set_boot(
                pool,
                mode,
                kernel=options["kernel"],
                ramdisk=options["ramdisk"],
                args=(DEFAULT_ARGS if mode in DIRECT_BOOTS else "") if said is None else said,
                actor="system:set_boot",
            )
        except InvalidRequest as refusal:
            raise CommandError(str(refusal)) from refusal
