"""Connects disks anew whose server went away, so that a server may start again while guests run."""

from __future__ import annotations

import asyncio
import struct

from deploy.xenlab.agent import nbd, netlink
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.journal import report

# linux/nbd-netlink.h: what the kernel tells when a device lost its connection.
GROUP, LINK_DEAD = "nbd_mc_group", 4
ANSWER = 5.0
PAUSE = 1.0


async def keep_disks() -> None:
    """Runs for ever. A disk that nobody detached is tried again each second."""
    loop = asyncio.get_running_loop()
    trying: dict[int, asyncio.Task[None]] = {}
    with netlink.hear("nbd", GROUP) as kernel:
        while True:
            command, given = netlink.message(await loop.sock_recv(kernel, 4096))
            if command != LINK_DEAD or nbd.INDEX not in given:
                continue
            (index,) = struct.unpack("=I", given[nbd.INDEX])
            if index not in trying:
                trying[index] = asyncio.create_task(_mend(index, trying))


async def _mend(index: int, trying: dict[int, asyncio.Task[None]]) -> None:
    try:
        await _reconnect(index)
    finally:
        del trying[index]


async def _reconnect(index: int) -> None:
    last = ""
    while device := nbd.at(index):
        try:
            await nbd.reconnect(device, timeout=ANSWER)
        except (AgentError, OSError) as error:
            if str(error) != last:
                last = str(error)
                report(f"disk {device.export.vdi} is without its server: {last}")
            await asyncio.sleep(PAUSE)
        else:
            report(f"disk {device.export.vdi} has its server again")
            return
