"""Hosts without Xen for tests of the xl backend: agents that keep their domains in memory.

They speak the agent's protocol over real sockets, each host at a loopback address of its own, and use the
lab's disks as dom0's kernel does: over NBD, from that address.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket as sockets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploy.lab.nbd import protocol
from deploy.lab.tests.nbd_client import NbdClient
from deploy.lab.xl.hardware import Place

LIMIT = 30.0
_labs = itertools.count()


class Refused(Exception):
    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


@dataclass
class FakeDomain:
    """`wanted` is what `create` was asked for."""

    uuid: str
    wanted: dict[str, Any]
    state: str = "paused"
    booted: bool = False
    console: bytes = b""
    typed: bytes = b""
    watchers: list[asyncio.StreamWriter] = field(default_factory=list)

    def say(self, text: bytes) -> None:
        self.console += text
        for watcher in self.watchers:
            watcher.write(text)


class FakeHost:
    """One host's dom0. Everything runs on the loop of its `FakeXen`."""

    def __init__(self, xen: FakeXen, number: int, address: str) -> None:
        self.xen = xen
        self.number = number
        self.address = address
        self.port = 0
        self.domains: dict[str, FakeDomain] = {}
        self.disks: dict[str, NbdClient] = {}
        self.bridges: dict[str, int | None] = {}
        self.filters: dict[tuple[str, int], dict[str, Any]] = {}
        self.expected: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refuses: dict[str, str] = {}
        """Request → the code that it is refused with, once."""
        self.is_on = False
        self.obeys = True
        """Whether guests shut down when they are asked to."""
        self._server: asyncio.Server | None = None
        self._hearers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()

    async def boot(self) -> None:
        self.is_on = True
        self._server = await asyncio.start_server(self._serve, self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Lose power: nothing is said to anybody."""
        self.is_on = False
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        for disk in self.disks.values():
            disk.socket.close()
        self.disks.clear()
        self.domains.clear()
        self._hearers.clear()

    def vanish(self) -> None:
        """The machine is killed: connections stay, and nobody is there."""
        self.is_on = False
        self.domains.clear()

    def lose_connections(self) -> None:
        """The agent starts again; domains run on."""
        for writer in list(self._connections):
            writer.transport.abort()

    # --- domains

    def tell(self, **event: Any) -> None:
        for writer in self._hearers:
            writer.write(json.dumps(event).encode() + b"\n")

    def write(self, uuid: str, path: str, value: str | None) -> None:
        """The guest writes into xenstore."""
        self.tell(event="xenstore", uuid=uuid, path=path, value=value)

    def end(self, uuid: str, reason: str) -> None:
        """The domain ends by itself."""
        del self.domains[uuid]
        self.tell(event="domain", uuid=uuid, state="ended", reason=reason)

    def disk_of(self, uuid: str) -> NbdClient:
        """The domain's first disk, as its host has it."""
        return self.disks[self.domains[uuid].wanted["disks"][0]["vdi"]]

    def _one(self, uuid: str) -> FakeDomain:
        if uuid not in self.domains:
            raise Refused("no_such_domain", f"no domain {uuid} runs here")
        return self.domains[uuid]

    def _becomes(self, domain: FakeDomain, state: str) -> None:
        domain.state = state
        self.tell(event="domain", uuid=domain.uuid, state=state)

    # --- requests

    async def do(self, name: str, args: dict[str, Any]) -> Any:
        self.asked.append((name, args))
        if (code := self.refuses.pop(name, None)) is not None:
            raise Refused(code)
        method: Callable[..., Any] = getattr(self, f"do_{name}")
        return await method(**args)

    async def do_hello(self) -> Any:
        return {
            "version": 1,
            "boot_id": "0",
            "memory": 8 << 30,
            "cpus": 1,
            "domains": [{"uuid": d.uuid, "state": d.state} for d in self.domains.values()],
            "disks": list(self.disks),
        }

    async def do_disk_attach(
        self, vdi: str, host: str, port: int, export: str, read_only: bool
    ) -> Any:
        if vdi not in self.disks:
            try:
                self.disks[vdi] = await asyncio.to_thread(
                    NbdClient, host, port, export, source=self.address
                )
            except PermissionError as error:
                raise Refused("disk_refused", str(error)) from error
        return {"path": f"/dev/{vdi}"}

    async def do_disk_detach(self, vdi: str) -> Any:
        if (disk := self.disks.pop(vdi, None)) is not None:
            disk.socket.close()
        return {}

    async def do_bridge(self, name: str, vlan: int | None) -> Any:
        self.bridges[name] = vlan
        return {}

    async def do_create(self, uuid: str, **wanted: Any) -> Any:
        if uuid in self.domains:
            raise Refused("domain_exists")
        self._need(wanted)
        self.domains[uuid] = FakeDomain(uuid, wanted)
        self._becomes(self.domains[uuid], "paused")
        return {"domid": 1}

    def _need(self, wanted: dict[str, Any]) -> None:
        for disk in wanted["disks"]:
            if disk["vdi"] not in self.disks:
                raise Refused("disk_not_attached")
        for vif in wanted["vifs"]:
            if vif["bridge"] not in self.bridges:
                raise Refused("bad_argument", f"no bridge {vif['bridge']}")

    async def do_plug(self, uuid: str, **devices: Any) -> Any:
        wanted = self._one(uuid).wanted
        more = {kind: devices.get(kind, []) for kind in ("disks", "vifs")}
        self._need(more)
        for kind, new in more.items():
            if {one["device"] for one in new} & {one["device"] for one in wanted[kind]}:
                raise Refused("device_taken")
            wanted[kind] = [*wanted[kind], *new]
        return {}

    async def do_unplug(self, uuid: str, force: bool, **devices: list[int]) -> Any:
        wanted = self._one(uuid).wanted
        for kind in ("disks", "vifs"):
            gone = devices.get(kind, [])
            wanted[kind] = [one for one in wanted[kind] if one["device"] not in gone]
        return {}

    async def do_unpause(self, uuid: str) -> Any:
        domain = self._one(uuid)
        self._becomes(domain, "running")
        if not domain.booted:
            domain.booted = True
            domain.say(b"the guest is up\r\n")
            for word in ("poweroff", "reboot", "suspend"):
                self.write(uuid, f"control/feature-{word}", "1")
            self.write(uuid, "data/os_name", "Fake 1")
        return {}

    async def do_pause(self, uuid: str) -> Any:
        self._becomes(self._one(uuid), "paused")
        return {}

    async def do_destroy(self, uuid: str) -> Any:
        self._one(uuid)
        self.end(uuid, "killed")
        return {}

    async def do_shutdown(self, uuid: str, how: str) -> Any:
        self._one(uuid)
        if self.obeys:
            asyncio.get_running_loop().call_soon(self.end, uuid, how)
        return {}

    async def do_receive(self, uuid: str, **devices: Any) -> Any:
        self._need(devices)
        self.expected[uuid] = devices
        return {}

    async def do_migrate(self, uuid: str, to: str, live: bool) -> Any:
        domain = self._one(uuid)
        target = next(host for host in self.xen.all if host.address == to)
        if uuid not in target.expected:
            raise Refused("not_expected")
        del target.expected[uuid]
        await self.xen.during_migration(self, target, domain)
        del self.domains[uuid]
        target.domains[uuid] = domain
        target._becomes(domain, "running")
        for watcher in domain.watchers:
            watcher.close()
        domain.watchers.clear()
        self.tell(event="domain", uuid=uuid, state="ended", reason="migrated")
        return {}

    async def do_save(self, uuid: str, vdi: str) -> Any:
        memory = b"memory of " + uuid.encode()
        await asyncio.to_thread(self.disks[vdi].ask, protocol.Command.WRITE, 0, len(memory), memory)
        self.xen.memories[uuid] = self._one(uuid)
        self.end(uuid, "suspend")
        return {}

    async def do_restore(self, uuid: str, vdi: str, paused: bool, **devices: Any) -> Any:
        self._need(devices)
        memory = await asyncio.to_thread(self.disks[vdi].ask, protocol.Command.READ, 0, 46)
        if memory != b"memory of " + uuid.encode():
            raise Refused("xl_failed", "that is no memory of this domain")
        domain = self.domains[uuid] = self.xen.memories[uuid]
        self._becomes(domain, "paused")
        return {}

    async def do_vif_filter(self, uuid: str, device: int, **wanted: Any) -> Any:
        self.filters[uuid, device] = wanted
        return {}

    async def do_vif_move(self, uuid: str, device: int, bridge: str, **wanted: Any) -> Any:
        if bridge not in self.bridges:
            raise Refused("no_such_bridge")
        for vif in self._one(uuid).wanted["vifs"]:
            if vif["device"] == device:
                vif.update(wanted, bridge=bridge)
                return {}
        raise Refused("no_such_interface")

    async def do_stats(self) -> Any:
        return {
            "domains": [
                {
                    "uuid": d.uuid,
                    "cpu_ns": 0,
                    "memory": d.wanted["memory_mib"] << 20,
                    "vcpus": d.wanted["vcpus"],
                    "vifs": [],
                    "vbds": [],
                }
                for d in self.domains.values()
            ]
        }

    # --- connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if "console" in request:
                    await self._console(request["console"], reader, writer)
                    return
                if request["do"] == "hello":
                    self._hearers.add(writer)
                task = asyncio.ensure_future(self._answer(writer, request))
                self.xen.tasks.add(task)
                task.add_done_callback(self.xen.tasks.discard)
        except ConnectionError:
            pass
        finally:
            self._connections.discard(writer)
            self._hearers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            answer["result"] = await self.do(request["do"], request["args"])
        except Refused as refused:
            answer["error"] = {"code": refused.code, "message": str(refused)}
        writer.write(json.dumps(answer).encode() + b"\n")

    async def _console(
        self, uuid: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        domain = self.domains.get(uuid)
        if domain is None:
            writer.write(b'{"error": {"code": "no_such_domain", "message": ""}}\n')
            return
        writer.write(b'{"ok": true}\n' + domain.console)
        domain.watchers.append(writer)
        while data := await reader.read(4096):
            domain.typed += data
            domain.say(b"echo " + data)


class FakeXen:
    """`deploy.lab.xl.hardware.Hardware` for tests."""

    def __init__(self, hosts: int) -> None:
        net = f"127.{65 + os.getpid() % 150}.{250 - next(_labs) % 50}"
        self.net = net
        self.nbd_port = 0
        self.cuts: list[int] = []
        """Hosts whose power was cut, each time."""
        self.off_at_once = threading.Event()
        """While it is not set, cutting the power of a host takes its time."""
        self.off_at_once.set()
        self.memories: dict[str, FakeDomain] = {}
        """What a domain was when its memory was written to a disk."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.all = [FakeHost(self, n, f"{net}.{100 + n}") for n in range(1, hosts + 1)]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        for host in self.all:
            self.wait(host.boot())
        self.switched: list[tuple[str, str]] = []
        """Of each migration with a disk: what became of writes of target and source after it ran."""

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT)

    def do(self, action: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return action()

        return self.wait(run())

    def close(self) -> None:
        for host in self.all:
            self.wait(host.die())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()

    def host(self, name: str) -> FakeHost:
        return self.all[int(name.removeprefix("h")) - 1]

    async def during_migration(
        self, source: FakeHost, target: FakeHost, domain: FakeDomain
    ) -> None:
        """The guest writes until it stops at the source, then writes at the target; the source's
        kernel still has an old write in its queue."""
        if not domain.wanted["disks"]:
            return
        vdi = domain.wanted["disks"][0]["vdi"]
        before, after = source.disks[vdi], target.disks[vdi]

        def write(disk: NbdClient, data: bytes) -> str:
            try:
                disk.ask(protocol.Command.WRITE, 0, len(data), data)
            except OSError as error:
                return os.strerror(error.errno or 0)
            return "written"

        assert await asyncio.to_thread(write, before, b"source") == "written"
        told = (
            await asyncio.to_thread(write, after, b"target"),
            await asyncio.to_thread(write, before, b"stale!"),
        )
        self.switched.append(told)

    # --- Hardware

    @property
    def hosts(self) -> int:
        return len(self.all)

    def agent(self, number: int) -> Place:
        return Place(self.all[number - 1].address, self.all[number - 1].port)

    def socket(self) -> sockets.socket:
        return sockets.socket()

    def listen(self) -> tuple[sockets.socket, Place]:
        listening = sockets.create_server((f"{self.net}.99", self.nbd_port))
        self.nbd_port = listening.getsockname()[1]
        return listening, Place(f"{self.net}.99", self.nbd_port)

    def cut_power(self, number: int) -> None:
        self.cuts.append(number)
        self.wait(self.all[number - 1].die())
        self.off_at_once.wait(LIMIT)

    def give_power(self, number: int) -> None:
        self.wait(self.all[number - 1].boot())

    def is_on(self, number: int) -> bool:
        return self.all[number - 1].is_on
