"""manage.py follow POOL"""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from hosting.connections import keep_one_connection
from hosting.fleet.models import Pool
from worker.connections import Connections
from worker.follower import Follower, PoolForgotten, stopping_on_signals


def pool_named(name: str) -> Pool:
    """By name or uuid. Raises CommandError."""
    pool = Pool.objects.filter(name=name).first()
    if pool is None and _is_uuid(name):
        pool = Pool.objects.filter(pk=name).first()
    if pool is None:
        known = ", ".join(Pool.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"no pool {name!r} is enrolled (enrolled: {known})")
    return pool


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


class Command(BaseCommand):
    """Several may be started for one pool: one leads, the others stand by."""

    help = "Keep what we know of a pool in step with it, until stopped by SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", help="its name or uuid")

    def handle(self, *args: Any, **options: Any) -> None:
        keep_one_connection()
        pool = pool_named(options["pool"])
        connections = Connections()
        follower = Follower(pool.pk, lambda now: connections.of(now).watcher())
        with stopping_on_signals(follower):
            try:
                follower.run()
            except PoolForgotten as error:
                raise CommandError(f"pool {pool.name} is not enrolled any more") from error
