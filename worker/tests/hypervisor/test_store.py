"""The session that processes share through Redis."""

import os

import pytest
from cryptography.fernet import Fernet, MultiFernet
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.hypervisor.xapi.session import StoredSession
from worker.hypervisor.xapi.store import RedisSessionStore

SESSION = StoredSession("10.0.0.1:443", "OpaqueRef:s")


@pytest.fixture
def redis(servers: None) -> Redis:
    return Redis.from_url(os.environ["REDIS_URL"])


@pytest.fixture
def key() -> Fernet:
    return Fernet(Fernet.generate_key())


def test_a_session_is_found_by_another_process(redis: Redis, key: Fernet) -> None:
    RedisSessionStore(redis, "one", MultiFernet([key])).save(SESSION)
    assert RedisSessionStore(redis, "one", MultiFernet([key])).load() == SESSION
    assert RedisSessionStore(redis, "other", MultiFernet([key])).load() is None


def test_a_session_is_not_readable_in_redis(redis: Redis, key: Fernet) -> None:
    RedisSessionStore(redis, "sealed", MultiFernet([key])).save(SESSION)
    stored = redis.get("bulkhead:xapi-session:sealed")
    assert isinstance(stored, bytes)
    assert b"OpaqueRef" not in stored


def test_a_session_under_a_key_we_do_not_have_is_none(redis: Redis, key: Fernet) -> None:
    RedisSessionStore(redis, "rotated", MultiFernet([key])).save(SESSION)
    other = MultiFernet([Fernet(Fernet.generate_key())])
    assert RedisSessionStore(redis, "rotated", other).load() is None


def test_a_forgotten_session_is_gone(redis: Redis, key: Fernet) -> None:
    store = RedisSessionStore(redis, "gone", MultiFernet([key]))
    store.save(SESSION)
    store.save(None)
    assert store.load() is None


def test_one_process_at_a_time_logs_in(redis: Redis, key: Fernet) -> None:
    store = RedisSessionStore(redis, "locked", MultiFernet([key]))
    with store.lock():
        assert redis.exists("bulkhead:xapi-session:locked:lock")
    assert not redis.exists("bulkhead:xapi-session:locked:lock")


def test_without_redis_there_is_no_shared_session_and_no_error(key: Fernet) -> None:
    nobody = Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0))
    store = RedisSessionStore(nobody, "away", MultiFernet([key]))
    store.save(SESSION)
    with store.lock():
        assert store.load() is None
