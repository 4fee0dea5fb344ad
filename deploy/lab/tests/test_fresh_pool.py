"""What a fresh pool holds, and how long it takes to fill."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.lab.lab import Config, Lab

RECORDED = {
    "VM": 52,
    "VM_metrics": 52,
    "host": 3,
    "host_metrics": 3,
    "host_cpu": 48,
    "network": 3,
    "PIF": 6,
    "PIF_metrics": 6,
    "SM": 10,
    "SR": 8,
    "VDI": 3,
    "PBD": 12,
    "console": 6,
    "secret": 1,
    "user": 1,
    "PCI": 6,
    "Certificate": 6,
    "Host_driver": 60,
    "Driver_variant": 66,
    "role": 2235,
}


@contextmanager
def lab_of(config: Config) -> Iterator[Lab]:
    lab = Lab(config)
    try:
        yield lab
    finally:
        asyncio.run(lab.close())


@pytest.fixture(scope="module")
def fresh() -> Iterator[Lab]:
    with lab_of(Config(hosts=3)) as lab:
        yield lab


def test_a_fresh_pool_counts_what_the_recorded_one_counted(fresh: Lab) -> None:
    assert {cls: fresh.db.count(cls) for cls in RECORDED} == RECORDED


def test_the_small_pool_has_storage_networks_and_a_template() -> None:
    with lab_of(Config(hosts=2, preset="small")) as lab:
        kinds = Counter(sr.type for sr in lab.db.all("SR"))
        assert kinds == {"nfs": 1, "iso": 1, "ext": 2, "udev": 2}
        assert lab.db.by_label("VM", "Other install media")[0].is_default_template
        assert lab.db.count("role") == lab.db.count("Host_driver") == 0


def test_allowed_operations_are_there_from_the_start(fresh: Lab) -> None:
    template = fresh.db.by_label("VM", "Debian Bookworm 12")[0]
    assert template.allowed_operations[-1] == "clone"
    assert "ha_enable" in fresh.pool.allowed_operations


def test_a_large_pool_is_there_within_a_second() -> None:
    began = time.perf_counter()
    with lab_of(Config(hosts=64, preset="small")):
        assert time.perf_counter() - began < 1.0
