"""What Celery may ring for. Ids in, nothing out; losing or doubling any of these is harmless."""

from uuid import UUID

from celery import shared_task

from hosting.operations import services
from hosting.operations.attention import raise_and_close_alarms
from worker import engine
from worker.connections import Connections
from worker.copies import copy_databases
from worker.reconcile.blanks.run import reconcile_blanks
from worker.reconcile.hosts.run import reconcile_hosts
from worker.reconcile.images.run import reconcile_images
from worker.reconcile.instances.run import reconcile_instances
from worker.reconcile.networks.run import reconcile_networks
from worker.reconcile.orphans.run import reconcile_orphans
from worker.reconcile.quotas.run import reconcile_quotas

_connections = Connections()


@shared_task(name="worker.tasks.advance")
def advance(uuid: str) -> None:
    """Run an operation's steps as long as one follows the other, for half a minute."""
    engine.advance(UUID(uuid), _connections.of)


@shared_task(name="worker.tasks.dispatch")
def dispatch() -> None:
    """Ring for every operation that is due. Each second."""
    services.dispatch_due()


@shared_task(name="worker.tasks.watch")
def watch() -> None:
    """Open and close the alarms that rows alone tell of. Every ten seconds."""
    raise_and_close_alarms()


@shared_task(name="worker.tasks.reconcile")
def reconcile() -> None:
    """Compare wish and fact, and open what is missing. Every five seconds."""
    reconcile_instances()
    reconcile_images()
    reconcile_blanks()


@shared_task(name="worker.tasks.check")
def check() -> None:
    """Look for what is left over or used up, and whether the ledger adds up. Every minute."""
    reconcile_orphans()
    reconcile_networks()
    reconcile_quotas()


@shared_task(name="worker.tasks.copy")
def copy() -> None:
    """Have pools copy their databases to all hosts when something was made. Every half minute."""
    copy_databases(_connections.of)


@shared_task(name="worker.tasks.look_after_hosts")
def look_after_hosts() -> None:
    """Ask every host whether it lives. Every ten seconds; takes as long when many hang."""
    reconcile_hosts()
