"""A domain's console, brought from its host into the lab, for as long as it is there."""

from __future__ import annotations

import asyncio
import logging

from deploy.lab.xl.agent import AgentError, AgentLost
from deploy.lab.xl.guest import RealGuest
from deploy.lab.xl.link import Link

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Real seconds between two tries."""
CHUNK = 64 * 1024


async def follow(link: Link, guest: RealGuest) -> None:
    """Copy both ways until cancelled, or until the domain has ended."""
    while not guest.stopped.is_set():
        try:
            await _copy(link, guest)
        except (AgentError, AgentLost, ConnectionError) as error:
            log.debug("console of %s: %s", guest.vm.uuid, error)
        await asyncio.sleep(AGAIN)


async def _copy(link: Link, guest: RealGuest) -> None:
    reader, writer = await link.console(guest.vm.uuid)
    guest.console.on_input = writer.write
    try:
        while data := await reader.read(CHUNK):
            guest.console.write(data)
    finally:
        guest.console.on_input = lambda data: None
        writer.transport.abort()
