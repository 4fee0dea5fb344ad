"""manage.py relay POOL"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hosting.connections import keep_one_connection
from worker.connections import Connections
from worker.follower import PoolForgotten, stopping_on_signals
from worker.management.commands.follow import pool_named
from worker.relay.relay import Relay


class Command(BaseCommand):
    """Several may be started for one pool: one leads, the others stand by."""

    help = "Keep what a pool's containers write to their consoles, until stopped by SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", help="its name or uuid")

    def handle(self, *args: Any, **options: Any) -> None:
        keep_one_connection()
        pool = pool_named(options["pool"])
        relay = Relay(pool.pk, Connections().of)
        with stopping_on_signals(relay):
            try:
                relay.run()
            except PoolForgotten as error:
                raise CommandError(f"pool {pool.name} is not enrolled any more") from error
