"""Alarms when quota or hosts' memory is not what the instances hold: a fault of ours, for a person."""

from __future__ import annotations

from collections import defaultdict

from django.db import connection, transaction

from hosting.alarms.choices import Severity
from hosting.alarms.services import Wanted, let_stand
from hosting.compute.models import Instance
from hosting.fleet.models import Host
from hosting.warm.models import Blank
from tenants.choices import DIMENSIONS
from tenants.models import Quota
from worker.reconcile.quotas.diff import Wrong, diff

CODE = "ledger-wrong"


def reconcile_quotas() -> list[Wrong]:
    """What is wrong. Nothing is mended: a sum that is wrong says that some other is not to be trusted."""
    wrong = list(diff(*_sums()))
    let_stand([CODE], map(_alarm_about, wrong))
    return wrong


def _alarm_about(wrong: Wrong) -> Wanted:
    return Wanted(
        f"{CODE}:{wrong.what}.{wrong.column}",
        Severity.CRITICAL,
        f"The ledger is wrong: {wrong.column} of {wrong.what}",
        f"It says {wrong.kept}, its rows add up to {wrong.counted}.",
    )


Sums = dict[str, dict[str, int]]


@transaction.atomic
def _sums() -> tuple[Sums, Sums]:
    """As they were at one moment, whatever is written meanwhile."""
    if not connection.savepoint_ids:  # in a caller's transaction it is too late to choose
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    kept: Sums = {
        f"host:{uuid}": {"memory_bytes": held}
        for uuid, held in Host.objects.values_list("pk", "memory_reserved_bytes")
    }
    for quota in Quota.objects.all():
        kept[f"tenant:{quota.pk}"] = {name: getattr(quota, f"{name}_used") for name in DIMENSIONS}
    counted: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for instance in Instance.objects.all().living().select_related("container"):
        for host in (instance.host_id, instance.target_id):
            counted[f"host:{host}"]["memory_bytes"] += instance.reserved_bytes
        for name, held in instance.container.holds(instance).items():
            counted[f"tenant:{instance.container.tenant_id}"][name] += held
    for host, held in Blank.objects.all().holding().values_list("host", "reserved_bytes"):
        counted[f"host:{host}"]["memory_bytes"] += held
    return kept, {what: dict(sums) for what, sums in counted.items()}
