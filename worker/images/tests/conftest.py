from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.certificates import make_certificate
from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import Store, demonstration
from deploy.lab.registry.faults import Faults
from deploy.lab.registry.server import serving
from worker.images import Images, Reach, Reference, Spool
from worker.images.tests.crafting import OPEN
from worker.images.ways import Ways


@pytest.fixture(autouse=True)
def _close_spooled() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[Registry, str]]:
    """One server for all tests; starting and stopping it takes longer than most of them."""
    registry = Registry(Store())
    with serving(registry) as where:
        yield registry, where


@pytest.fixture
def registry(_served: tuple[Registry, str]) -> Registry:
    """With the demonstration's images; anybody may pull."""
    registry, _ = _served
    registry.store, registry.access, registry.faults = demonstration(), Access(), Faults()
    registry.knows_ranges = True
    registry.seen.clear()
    return registry


@pytest.fixture
def authority(_served: tuple[Registry, str], registry: Registry) -> str:
    """Where it answers, plain HTTP: "127.0.0.1:port"."""
    _, where = _served
    return where


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Of an operator who allows this machine's own addresses, without TLS."""
    reach = Reach.parse(allowed=["127.0.0.0/8"], plain_http=["127.0.0.1"])
    return Images(Spool(tmp_path), reach, ways=Ways(pause=lambda seconds: None))


@pytest.fixture
def web(authority: str) -> Reference:
    return Reference.parse(f"{authority}/web:1.0")


@pytest.fixture
def worker(authority: str) -> Reference:
    return Reference.parse(f"{authority}/worker:2.1")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """For registry.example; with its key."""
    path = tmp_path / "registry.pem"
    path.write_text("".join(make_certificate("registry.example", "192.0.2.1")))
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[tuple[Registry, int]]:
    registry = Registry(demonstration())
    with serving(registry, certificate=certificate) as where:
        yield registry, int(where.rpartition(":")[2])
