"""Settings are read in a process of their own: what matters is whether a process starts."""

import os
import subprocess
import sys

import pytest
from django.conf import settings

from hosting.operations.choices import Queue, longest_step

GOOD = {
    "SECRET_KEY": "8f0c2f7bd24e4b0fb9d1a35cbe64dbd1-6f2c1f1be8c94c0f8a52",
    "KEY_RING": "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "DATABASE_URL": "postgresql://bulkhead:pw@db.example/bulkhead?sslmode=verify-full",
    "REDIS_URL": "redis://redis.example/0",
    "ALLOWED_HOSTS": "bulkhead.example",
}


def start(
    expression: str = "None", changes: dict[str, str | None] | None = None
) -> "subprocess.CompletedProcess[str]":
    given = {
        name: value for name, value in {**GOOD, **(changes or {})}.items() if value is not None
    }
    code = f"from hosting import settings; print({expression})"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **given},
        cwd=settings.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_production_is_the_default_and_starts_when_all_is_given() -> None:
    done = start("settings.ENVIRONMENT, settings.DEBUG, settings.SESSION_COOKIE_SECURE")
    assert done.stdout == "production False True\n", done.stderr


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"DEBUG": "1"}, "DEBUG is on"),
        ({"SECRET_KEY": None}, "SECRET_KEY is absent"),
        ({"SECRET_KEY": "django-insecure-" + GOOD["SECRET_KEY"]}, "SECRET_KEY is a default"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is a default or too short"),
        ({"KEY_RING": None}, "KEY_RING is absent"),
        ({"ALLOWED_HOSTS": None}, "ALLOWED_HOSTS is empty"),
        ({"REDIS_URL": None}, "REDIS_URL is absent"),
        ({"DATABASE_URL": None}, "DATABASE_URL is absent"),
        ({"ENVIRONMENT": "prod"}, "ENVIRONMENT is 'prod'"),
        ({"IMAGE_ALLOWED_NETWORKS": "10.0.0.1/8"}, "IMAGE_ALLOWED_NETWORKS: 10.0.0.1/8 has host"),
        ({"IMAGE_LIMITS": "much"}, "IMAGE_LIMITS must be JSON"),
        ({"IMAGE_LIMITS": "[]"}, "IMAGE_LIMITS must be JSON"),
        ({"IMAGE_LIMITS": '{"*": {"bits": 1}}'}, "IMAGE_LIMITS has 'bits': 1"),
        ({"IMAGE_LIMITS": '{"acme": {"depth": 501}}'}, "depth 500"),
        ({"IMAGE_LIMITS": '{"acme": {"bytes": true}}'}, "IMAGE_LIMITS has 'bytes': True"),
        ({"IMAGE_REQUESTS_PER_REGISTRY": "0"}, "IMAGE_REQUESTS_PER_REGISTRY: 1 to 64"),
    ],
    ids=str,
)
def test_production_does_not_start_carelessly(change: dict[str, str | None], fault: str) -> None:
    done = start(changes=change)
    assert done.returncode != 0
    assert fault in done.stderr


def test_libpqs_whole_address_counts() -> None:
    expression = "[settings.DATABASES['default'][k] for k in ('HOST', 'NAME', 'USER', 'OPTIONS')]"
    done = start(expression)
    options = "{'connect_timeout': 10, 'sslmode': 'verify-full'}"
    assert done.stdout == f"['db.example', 'bulkhead', 'bulkhead', {options}]\n", done.stderr


def test_a_socket_is_an_address_too() -> None:
    done = start(
        "settings.DATABASES['default']['HOST']",
        {"DATABASE_URL": "postgresql:///b?host=%2Frun%2Fpg"},
    )
    assert done.stdout == "/run/pg\n", done.stderr


def test_the_broker_is_the_redis_unless_it_is_named() -> None:
    assert start("settings.BROKER_URL").stdout == GOOD["REDIS_URL"] + "\n"
    assert start("settings.BROKER_URL", {"BROKER_URL": "amqp://mq/"}).stdout == "amqp://mq/\n"


def test_the_clocks_of_an_operation_stand_in_order() -> None:
    soft, hard = settings.CELERY_TASK_SOFT_TIME_LIMIT, settings.CELERY_TASK_TIME_LIMIT
    visible = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    assert 20 < soft < hard < 120 < visible


@pytest.mark.parametrize("queue", Queue)
def test_no_bell_comes_again_while_a_worker_may_still_act_on_it(queue: Queue) -> None:
    held = 2 * longest_step(queue).total_seconds()
    assert held < settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]


def test_celery_has_the_queues_that_operations_know() -> None:
    assert set(settings.CELERY_TASK_QUEUES) == set(Queue.values)
