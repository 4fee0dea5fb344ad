"""From a row of Pool to a driver: one per pool, process and set of credentials."""

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as DatabaseFailure
from redis import Redis

from hosting import keyring
from hosting.fleet.models import Pool
from worker.hypervisor import xapi
from worker.hypervisor.port import Candidate, CandidatesChanged, Hypervisor, PoolConnection
from worker.hypervisor.xapi.store import RedisSessionStore

log = structlog.get_logger(__name__)


def connection_of(pool: Pool) -> PoolConnection:
    """How to reach it. Raises BrokenSeal when the password cannot be opened."""
    return PoolConnection(
        pool=str(pool.uuid),
        url=pool.url,
        username=pool.username,
        password=pool.password,
        candidates=candidates_from(pool.candidates),
    )


def candidates_from(stored: list[dict[str, Any]]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(one["address"], one["certificate"], UUID(one["host"]) if one["host"] else None)
        for one in stored
    )


def candidates_to_store(candidates: tuple[Candidate, ...]) -> list[dict[str, Any]]:
    return [
        {**asdict(one), "host": str(one.host) if one.host is not None else None}
        for one in candidates
    ]


def keep_candidates(pool: UUID) -> CandidatesChanged:
    """Store what a login learned of the pool's hosts, in place of what was known."""

    def store(candidates: tuple[Candidate, ...]) -> None:
        try:
            Pool.objects.filter(pk=pool).update(candidates=candidates_to_store(candidates))
        except DatabaseFailure:
            # The call that logged in must not fail for it; the next login tells again.
            log.exception("candidates_not_stored", pool=str(pool))

    return store


def _driver(pool: Pool) -> Hypervisor:
    """One whose session is shared by all processes that reach the same Redis."""
    redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    return xapi.connect(
        connection_of(pool),
        candidates_changed=keep_candidates(pool.pk),
        store=RedisSessionStore(redis, str(pool.pk), keyring.ring()),
    )


class Connections:
    """Drivers by pool, made when first asked for. Thread-safe."""

    def __init__(self, connect: Callable[[Pool], Hypervisor] = _driver) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._drivers: dict[UUID, tuple[tuple[str, ...], Hypervisor]] = {}

    def of(self, pool: Pool) -> Hypervisor:
        """The driver of this pool; a new one when its address or credentials have changed."""
        how = (pool.url, pool.username, pool.sealed_password)
        with self._lock:
            known, driver = self._drivers.get(pool.pk, (None, None))
            if driver is None or known != how:
                driver = self._connect(pool)
                self._drivers[pool.pk] = (how, driver)
            return driver
