"""Pools like those that were probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.probes.scenario import Pool

RATE = 5.0
"""Fast, and slow enough that no call takes `LONG` only because the computer is busy."""


@contextmanager
def a_pool(hosts: int, **options: Any) -> Iterator[Pool]:
    settings = {"rate": 0.0, "guest_boot_seconds": 0.0, "wrong_password_delay": 0.0} | options
    with running_lab(hosts=hosts, tls=False, **settings) as lab:
        pool = Pool(lab)
        lab.clock.set_rate(RATE)
        try:
            yield pool
        finally:
            pool.session("close")()


@pytest.fixture(scope="module")
def make_pool() -> Iterator[Callable[..., Pool]]:
    """A pool of so many hosts, for the whole module."""
    with ExitStack() as pools:
        yield lambda hosts, **options: pools.enter_context(a_pool(hosts, **options))
