"""Calls a dom0's agent from the machine that runs the lab: blocking, for commands and tests."""

from __future__ import annotations

import socket
from typing import Any

from deploy.xenlab.errors import XenlabError
from deploy.xenlab.jsonlines import JsonLines
from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import AGENT_PORT, HostPlan, LabPlan


def connect(plan: LabPlan, host: HostPlan, *, timeout: float) -> socket.socket:
    """A connection with a host's agent; raises XenlabError `host_silent`."""
    with inside(plan.namespace):
        connection = socket.socket()
    connection.settimeout(timeout)
    try:
        connection.connect((host.address, AGENT_PORT))
    except OSError as error:
        connection.close()
        raise XenlabError("host_silent", f"{host.name}'s agent does not answer: {error}") from error
    return connection


class Agent(JsonLines):
    """One connection, one request at a time; events that come meanwhile are kept in `events`."""

    def __init__(self, plan: LabPlan, host: HostPlan, *, timeout: float = 60.0) -> None:
        super().__init__(connect(plan, host, timeout=timeout), peer="the agent")
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._host = host

    def call(self, do: str, **arguments: Any) -> Any:
        """What the agent answers; raises XenlabError with the agent's code, or `host_silent`."""
        self._number += 1
        request = {"id": self._number, "do": do, "args": arguments}
        try:
            self.send(request)
            while (answer := self.line()).get("id") != self._number:
                self.events.append(answer)
        except OSError as error:
            raise XenlabError("host_silent", f"{self._host.name}, {do}: {error}") from error
        if "error" in answer:
            raise XenlabError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def event(self) -> dict[str, Any]:
        """The next event, waited for."""
        return self.events.pop(0) if self.events else self.line()
