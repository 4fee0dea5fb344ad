"""The lab's connection with one host's agent, made again whenever it is lost while the host has power."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from deploy.lab.errors import XapiError
from deploy.lab.xl.agent import Agent, AgentError, AgentLost, open_console
from deploy.lab.xl.hardware import Hardware

if TYPE_CHECKING:
    from deploy.lab.machine import Machine

log = logging.getLogger(__name__)

AGAIN = 0.5
"""Real seconds between two tries to reach a host."""

Event = dict[str, Any]


class Refusal(XapiError):
    """The agent refused a request; to a client of the pool an internal error."""

    def __init__(self, do: str, error: AgentError) -> None:
        super().__init__("INTERNAL_ERROR", f"xl: {do}: {error}")
        self.reason = error.code


class Link:
    """`on_hello` gets what the host says of itself each time that it is met.

    `on_death` is called when it is found without power that nobody has cut.
    """

    def __init__(
        self,
        machine: Machine,
        hardware: Hardware,
        on_hello: Callable[[Machine, Event], Awaitable[None]],
        on_event: Callable[[Machine, Event], None],
        on_death: Callable[[Machine], Awaitable[None]],
    ) -> None:
        self.machine = machine
        self.number = int(machine.name.removeprefix("h"))
        self.place = hardware.agent(self.number)
        self.met = asyncio.Event()
        """Set while the host's agent answers."""
        self.cutting = asyncio.Lock()
        """Held while the host's power is being cut."""
        self._hardware = hardware
        self._on_hello = on_hello
        self._on_event = on_event
        self._on_death = on_death
        self._met_in = -1
        """The boot of the machine, by its count, in which it was met last."""
        self._agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        self.drop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def drop(self) -> None:
        """End the connection: the host is about to lose its power."""
        self.met.clear()
        if self._agent is not None:
            self._agent.close()

    async def call(self, do: str, *, timeout: float = 60.0, **arguments: Any) -> Any:
        """What the agent answers. Raises Refusal, CANNOT_CONTACT_HOST [host]."""
        try:
            if self._agent is None:
                raise AgentLost("not connected")
            return await self._agent.call(do, timeout=timeout, **arguments)
        except AgentError as error:
            raise Refusal(do, error) from error
        except AgentLost as error:
            log.warning("%s: %s: %s", self.machine.name, do, error)
            raise XapiError("CANNOT_CONTACT_HOST", self.machine.host.ref) from error

    async def console(self, uuid: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises AgentError, AgentLost."""
        return await open_console(self._hardware.socket(), self.place, uuid)

    async def _run(self) -> None:
        while True:
            if self.machine.powered:
                try:
                    await self._meet()
                except (AgentLost, AgentError, XapiError) as error:
                    log.debug("%s: %s", self.machine.name, error)
                if self._has_died():
                    log.warning("%s has died", self.machine.name)
                    await self._on_death(self.machine)
            await asyncio.sleep(AGAIN)

    def _has_died(self) -> bool:
        """It lost its power and nobody took it. One that boots and was not met yet may be off."""
        machine = self.machine
        was_met = machine.powered and self._met_in == machine.boots
        return was_met and not self._hardware.is_on(self.number)

    async def _meet(self) -> None:
        agent = await Agent.connect(
            self._hardware.socket(), self.place, lambda event: self._on_event(self.machine, event)
        )
        try:
            known = await agent.call("hello", timeout=15.0)
            self._agent = agent
            self._met_in = self.machine.boots
            await self._on_hello(self.machine, known)
            self.met.set()
            # A machine that is killed says no goodbye: its connection only falls silent.
            while self._hardware.is_on(self.number) and not await agent.is_lost(within=AGAIN):
                pass
        finally:
            self.met.clear()
            self._agent = None
            agent.close()
