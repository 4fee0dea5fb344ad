"""The agent: `python3 -m deploy.xenlab.agent` in dom0."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import nbd
from deploy.xenlab.agent.diskkeeper import keep_disks
from deploy.xenlab.agent.domains import Domains
from deploy.xenlab.agent.filters import Filters
from deploy.xenlab.agent.hypervisor import Hypervisor
from deploy.xenlab.agent.journal import report
from deploy.xenlab.agent.moving import Moving
from deploy.xenlab.agent.requests import Requests
from deploy.xenlab.agent.server import Server
from deploy.xenlab.agent.xenstore import Xenstore

XENSTORED = Path("/run/xenstore.pid")


async def serve() -> None:
    store = await Xenstore.connect()
    hypervisor, server = Hypervisor(), Server()
    nbd.adopt()
    domains = Domains(store, hypervisor, Filters(), server.tell)
    moving = Moving(domains)
    await domains.start()
    await moving.start()
    keeping = asyncio.create_task(keep_disks())
    requests = Requests(store, hypervisor, domains, moving)
    asyncio.get_running_loop().set_exception_handler(_complain)
    await server.start(requests.handle, domains)
    uptime = Path("/proc/uptime").read_text().split()[0]
    report(f"READY after {uptime} s")
    await asyncio.wait(
        [keeping, asyncio.create_task(store.closed())], return_when="FIRST_COMPLETED"
    )
    report("xenstored is gone, or disks cannot be kept")


def _complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    report(f"{context.get('message')}: {context.get('exception')!r}")


def _give_way() -> None:
    """Everybody in dom0 waits for xenstored, so nothing puts it aside.

    Least of all this process, whom the first word of each answer would wake in the middle of the next: that
    doubled what xenstored needs for a domain.
    """
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.sched_setscheduler(int(XENSTORED.read_text()), os.SCHED_FIFO, os.sched_param(1))


_give_way()
asyncio.run(serve())
