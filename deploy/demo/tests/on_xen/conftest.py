"""One site for all tests of a run: it takes a minute to come up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.demo.tests.on_xen.site import Site, obstacles, push_images, site
from worker.images.tests.docker_registry import docker_registry


@pytest.fixture(scope="session")
def xen_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reasons := obstacles():
        pytest.skip("; ".join(reasons))
    with docker_registry(tmp_path_factory.mktemp("registry"), closed=False) as registry:
        push_images(registry, tmp_path_factory.mktemp("images"))
        with site(registry, {"HOST_SILENCE_SECONDS": "15"}) as there:
            yield there
