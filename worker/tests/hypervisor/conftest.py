from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from worker.tests.hypervisor.servers import ScriptedHost, scripted_host

MakeHost = Callable[[str], ScriptedHost]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(scripted_host(name))


@pytest.fixture
def host(make_host: MakeHost) -> ScriptedHost:
    return make_host("h1")
