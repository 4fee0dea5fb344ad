"""Asks hosts now and then what their domains have used."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.measurements import Source
from deploy.lab.xl import metrics
from deploy.lab.xl.link import Link


class Monitor:
    def __init__(self, lab: Lab, links: Mapping[Machine, Link]) -> None:
        self._lab = lab
        self._links = links
        self._histories: dict[str, metrics.History] = defaultdict(metrics.History)
        """VM uuid → what its domain has used."""

    def sources(self, vm: Row) -> list[Source]:
        history = self._histories.get(vm.uuid)
        return metrics.sources(history) if history is not None else []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.gather(*(self._look_at(link) for link in self._links.values()))
            self._forget()
            await asyncio.sleep(metrics.EVERY)

    async def _look_at(self, link: Link) -> None:
        if not link.met.is_set():
            return
        try:
            stats = await link.call("stats", timeout=4 * metrics.EVERY)
        except XapiError:
            return
        for domain in stats["domains"]:
            if domain["uuid"] in link.machine.domains:
                history = self._histories[domain["uuid"]]
                history.add(self._lab.clock.now(), metrics.flat(domain))

    def _forget(self) -> None:
        """Keep nothing of VMs that were destroyed."""
        known = self._lab.db.tables["VM"].by_uuid
        for uuid in [uuid for uuid in self._histories if uuid not in known]:
            del self._histories[uuid]
