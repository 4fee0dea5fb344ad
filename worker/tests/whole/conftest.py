from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import demonstration
from deploy.lab.registry.faults import Faults
from deploy.lab.registry.server import serving
from deploy.lab.testing import RunningLab, running_lab
from worker.fencing.hosts import fence_of
from worker.fencing.redfish import Patience
from worker.images import Images
from worker.tests.whole.estate import Estate, estate_on, spool_in
from worker.workflows import import_image, recover_host

RATE = 50.0
QUICK = Patience(per_exchange=1.0, per_call=4.0, between_readings=0.01)
"""The lab's machines are off 40 ms after they were told so."""


@pytest.fixture(scope="session")
def _registry() -> Iterator[tuple[Registry, str]]:
    registry = Registry(demonstration())
    with serving(registry) as where:
        yield registry, where


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(3, rate=RATE, sides=True) as lab:
        yield lab


@pytest.fixture
def fresh_lab() -> Iterator[RunningLab]:
    """One that a test may break."""
    with running_lab(4, rate=RATE, sides=True) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _real(
    _fences: None,
    _registry_in_memory: None,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    """Not the power switches and images of the other tests."""
    monkeypatch.setattr(recover_host, "find_fence", lambda host: fence_of(host, patience=QUICK))
    monkeypatch.setattr(import_image, "find_images", Images.by_settings)
    for name, value in spool_in(tmp_path).items():
        setattr(settings, name, value)


@pytest.fixture
def registry(_registry: tuple[Registry, str]) -> Registry:
    registry, _ = _registry
    registry.access, registry.faults = Access(), Faults()
    return registry


@pytest.fixture
def estate(
    db: None, lab: RunningLab, registry: Registry, _registry: tuple[Registry, str]
) -> Iterator[Estate]:
    with estate_on(lab, registry, _registry[1]) as estate:
        yield estate


@pytest.fixture
def fragile(
    db: None, fresh_lab: RunningLab, registry: Registry, _registry: tuple[Registry, str]
) -> Iterator[Estate]:
    """On a lab of its own."""
    with estate_on(fresh_lab, registry, _registry[1]) as estate:
        estate.set_fences()
        yield estate
