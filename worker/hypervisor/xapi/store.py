"""The pool's session in Redis, for all processes of all machines; sealed, for it opens the pool.

Redis being away costs logins, not calls: each process then has a session of its own.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from cryptography.fernet import InvalidToken, MultiFernet
from redis import Redis
from redis.exceptions import LockError, RedisError

from worker.hypervisor.xapi.session import StoredSession

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 20 * 3600
"""Less than the 24 h after which xapi drops an idle session (db_gc_util.ml)."""

LOGIN_SECONDS: Final = 60.0
"""A process that dies while it logs in holds the others up for that long at most."""


class RedisSessionStore:
    """See `session.SessionStore`. `keys` seal what is stored; the first one seals anew."""

    is_shared = True

    def __init__(self, redis: Redis, pool: str, keys: MultiFernet) -> None:
        self._redis = redis
        self._name = f"bulkhead:xapi-session:{pool}"
        self._keys = keys

    def load(self) -> StoredSession | None:
        try:
            sealed = self._redis.get(self._name)
        except RedisError as error:
            log.warning("stored session not read: %r", error)
            return None
        if not isinstance(sealed, bytes):
            return None
        try:
            address, reference = json.loads(self._keys.decrypt(sealed))
        except (InvalidToken, ValueError):
            log.warning("stored session not understood: another key, or another's data")
            return None
        return StoredSession(address, reference)

    def save(self, session: StoredSession | None) -> None:
        try:
            if session is None:
                self._redis.delete(self._name)
                return
            text = json.dumps([session.address, session.reference])
            self._redis.set(self._name, self._keys.encrypt(text.encode()), ex=KEPT_SECONDS)
        except RedisError as error:
            log.warning("session not stored: %r", error)

    def lock(self) -> AbstractContextManager[object]:
        return self._held()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Held if it can be: two logins at once are a waste, not an error."""
        lock = self._redis.lock(
            f"{self._name}:lock", timeout=LOGIN_SECONDS, blocking_timeout=LOGIN_SECONDS
        )
        try:
            lock.acquire()
        except (RedisError, LockError) as error:
            log.warning("session lock not taken: %r", error)
        try:
            yield
        finally:
            try:
                if lock.owned():
                    lock.release()
            except (RedisError, LockError) as error:
                log.warning("session lock not released: %r", error)
