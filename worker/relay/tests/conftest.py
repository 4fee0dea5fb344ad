from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosting.fleet.tests.makers import make_pool
from worker.relay.tests.consoles import Consoles
from worker.relay.tests.desk import Desk


@pytest.fixture
def desk(servers: None) -> Iterator[Desk]:
    desk = Desk(make_pool(), Consoles())
    yield desk
    for relay in list(desk.relays):
        desk.leave(relay)
    desk.consoles.close()
