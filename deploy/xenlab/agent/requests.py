"""What a client may ask of the agent, by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import fields, links, nbd, spec, stats
from deploy.xenlab.agent.domains import Domains
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.guestvalues import GuestValues
from deploy.xenlab.agent.hypervisor import Hypervisor
from deploy.xenlab.agent.journal import report
from deploy.xenlab.agent.moving import SAVED, Moving
from deploy.xenlab.agent.plugging import Plugging
from deploy.xenlab.agent.xenstore import Xenstore

VERSION = 1
DISK_ANSWER = 20.0
# Seconds a disk whose server is gone waits for it to come back before its guest sees errors.
PATIENCE = 120
FILTER = ("device", "locked", "ipv4", "ipv6", "disabled")

Arguments = dict[str, Any]


class Requests:
    """One method a request: `disk_attach`, `create` …"""

    def __init__(
        self, store: Xenstore, hypervisor: Hypervisor, domains: Domains, moving: Moving
    ) -> None:
        self._hypervisor = hypervisor
        self._domains = domains
        self._moving = moving
        self._plugging = Plugging(store, domains)
        self._values = GuestValues(store, lambda _: None)
        self._known: dict[str, Callable[[Arguments], Awaitable[Any]]] = {
            name.removeprefix("do_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("do_")
        }

    async def handle(self, do: str, arguments: Arguments) -> Any:
        """Raises AgentError, `unknown_request` when there is no such request."""
        if (method := self._known.get(do)) is None:
            raise AgentError("unknown_request", f"the agent knows no {do!r}")
        try:
            return await method(arguments)
        except OSError as error:
            raise AgentError("system_refused", f"{do}: {error}") from error

    async def do_hello(self, _: Arguments) -> Any:
        host = self._hypervisor.host()
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "memory": host.memory_total,
            "memory_free": host.memory_free,
            "cpus": host.cpus,
            "domains": self._domains.listed(),
            "disks": [one.export.vdi for one in nbd.attached()],
        }

    async def do_restart(self, _: Arguments) -> Any:
        """Ends the agent; dom0's init starts it anew. Domains do not notice."""
        report("asked to start anew")
        asyncio.get_running_loop().call_later(0.1, os._exit, 0)
        return {}

    async def do_disk_attach(self, arguments: Arguments) -> Any:
        export = nbd.Export(
            vdi=fields.plain_name(arguments, "vdi"),
            host=fields.text(arguments, "host"),
            port=fields.number(arguments, "port", 1, 65535),
            export=fields.text(arguments, "export"),
            read_only=fields.boolean(arguments, "read_only"),
        )
        device = await nbd.attach(export, timeout=DISK_ANSWER, dead_timeout=PATIENCE)
        return {"path": device.path}

    async def do_disk_detach(self, arguments: Arguments) -> Any:
        vdi = fields.plain_name(arguments, "vdi")
        if users := self._domains.users_of(vdi):
            raise AgentError("disk_in_use", f"{vdi} is in use by {', '.join(users)}")
        nbd.detach(vdi)
        return {}

    async def do_create(self, arguments: Arguments) -> Any:
        return await self._domains.create(spec.domain_of(arguments))

    async def do_pause(self, arguments: Arguments) -> Any:
        await self._domains.pause(fields.identity(arguments))
        return {}

    async def do_unpause(self, arguments: Arguments) -> Any:
        await self._domains.unpause(fields.identity(arguments))
        return {}

    async def do_destroy(self, arguments: Arguments) -> Any:
        await self._domains.destroy(fields.identity(arguments))
        return {}

    async def do_shutdown(self, arguments: Arguments) -> Any:
        """Asks the guest, who may take its time or never do it."""
        how = fields.text(arguments, "how", "poweroff")
        if how not in ("poweroff", "reboot", "suspend"):
            raise fields.bad("how", "`poweroff`, `reboot` or `suspend`")
        domain = self._domains.one(fields.identity(arguments))
        await self._values.write(domain.domid, "control/shutdown", how)
        return {}

    async def do_receive(self, arguments: Arguments) -> Any:
        self._moving.expect(spec.devices_of(arguments))
        return {}

    async def do_migrate(self, arguments: Arguments) -> Any:
        await self._moving.migrate(
            fields.identity(arguments),
            fields.addresses({"to": [arguments.get("to")]}, "to", 4)[0],
            fields.boolean(arguments, "live", True),
        )
        return {}

    async def do_save(self, arguments: Arguments) -> Any:
        return await self._moving.save(
            fields.identity(arguments),
            _state_file(arguments),
            fields.boolean(arguments, "keep_running"),
        )

    async def do_restore(self, arguments: Arguments) -> Any:
        return await self._moving.restore(
            spec.devices_of(arguments),
            _state_file(arguments),
            fields.boolean(arguments, "paused"),
        )

    async def do_plug(self, arguments: Arguments) -> Any:
        await self._plugging.plug(spec.devices_of(arguments))
        return {}

    async def do_unplug(self, arguments: Arguments) -> Any:
        """`disks`, `vifs`: their device numbers."""
        await self._plugging.unplug(
            fields.identity(arguments),
            fields.numbers(arguments, "disks", 0, 15),
            fields.numbers(arguments, "vifs", 0, 15),
            force=fields.boolean(arguments, "force"),
        )
        return {}

    async def do_bridge(self, arguments: Arguments) -> Any:
        vlan = arguments.get("vlan")
        if vlan is not None:
            vlan = fields.number(arguments, "vlan", 1, 4094)
        links.add_bridge(fields.bridge(arguments, "name"), vlan)
        return {}

    async def do_bridge_gone(self, arguments: Arguments) -> Any:
        links.remove_bridge(fields.bridge(arguments, "name"))
        return {}

    async def do_vif_filter(self, arguments: Arguments) -> Any:
        """What is not given stays as it is."""
        await self._domains.filter_vif(fields.identity(arguments), _given(arguments, *FILTER))
        return {}

    async def do_vif_move(self, arguments: Arguments) -> Any:
        """What is not given stays as it is, but for the bridge."""
        fields.bridge(arguments)
        changes = _given(arguments, "bridge", *FILTER)
        await self._plugging.move(fields.identity(arguments), changes)
        return {}

    async def do_stats(self, _: Arguments) -> Any:
        known = [(one, self._domains.devices_of(one.uuid)) for one in self._domains.known()]
        return stats.measured(self._hypervisor, known)

    async def do_xenstore_write(self, arguments: Arguments) -> Any:
        domain = self._domains.one(fields.identity(arguments))
        path = spec.path_below(arguments.get("path"))
        await self._values.write(domain.domid, path, fields.text(arguments, "value"))
        return {}

    async def do_xenstore_read(self, arguments: Arguments) -> Any:
        domain = self._domains.one(fields.identity(arguments))
        path = spec.path_below(arguments.get("path"))
        return {"value": await self._values.read(domain.domid, path)}


def _given(arguments: Arguments, *names: str) -> Arguments:
    return {name: arguments[name] for name in names if name in arguments}


def _state_file(arguments: Arguments) -> Path:
    """Where a domain's memory lies: an attached disk (`vdi`), or a file of this host (`path`)."""
    if "vdi" not in arguments:
        return SAVED / fields.plain_name(arguments, "path")
    return Path(nbd.one(fields.plain_name(arguments, "vdi")).path)
