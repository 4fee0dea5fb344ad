"""Fixtures of the worker's tests."""

from uuid import UUID

import pytest

from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.operations import bell
from hosting.operations.models import Operation
from worker.tests.shed import Shed, furnish  # registers the workflows that only tests know
from worker.tests.worlds import FENCES, REGISTRY
from worker.workflows import import_image, recover_host


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """No broker in these tests: the operations for which a worker would have been rung."""
    heard: list[UUID] = []
    monkeypatch.setattr(bell, "_ring", lambda asked: heard.extend(uuid for uuid, _ in asked))
    return heard


@pytest.fixture(autouse=True)
def _fences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of these tests have their power switches in memory."""
    FENCES.clear()
    monkeypatch.setattr(recover_host, "find_fence", lambda host: FENCES[host.pk])


@pytest.fixture(autouse=True)
def _registry_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images come from memory too."""
    monkeypatch.setattr(import_image, "find_images", lambda: REGISTRY["now"])


@pytest.fixture
def shed() -> Shed:
    return Shed()


@pytest.fixture
def host(db: None) -> Host:
    return make_host()


@pytest.fixture
def operation(host: Host) -> Operation:
    return Operation.objects.create(kind=furnish.kind, host=host, requested_by="test")
