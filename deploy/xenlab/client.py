"""Calls a dom0's agent from the machine that runs the lab: blocking, for commands and tests."""

from __future__ import annotations

import socket
from collections.abc import Sequence
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
        return self.calls(do, [arguments])[0]

    def calls(self, do: str, each: Sequence[dict[str, Any]]) -> list[Any]:
        """The same several times side by side: what is answered to each; raises as `call`, when all are answered."""
        numbers = [self._number + place for place in range(1, len(each) + 1)]
        self._number += len(each)
        answers: dict[int, dict[str, Any]] = {}
        try:
            for number, arguments in zip(numbers, each, strict=True):
                self.send({"id": number, "do": do, "args": arguments})
            while len(answers) < len(each):
                answer = self.line()
                if "id" in answer:
                    answers[answer["id"]] = answer
                else:
                    self.events.append(answer)
        except OSError as error:
            raise XenlabError("host_silent", f"{self._host.name}, {do}: {error}") from error
        for number in numbers:
            if "error" in answers[number]:
                raise XenlabError(**answers[number]["error"])
        return [answers[number]["result"] for number in numbers]

    def event(self) -> dict[str, Any]:
        """The next event, waited for."""
        return self.events.pop(0) if self.events else self.line()
