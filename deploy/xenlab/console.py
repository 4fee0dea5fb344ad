"""Shows a host's serial log, or a domain's console, on this terminal."""

from __future__ import annotations

import json
import os
import selectors
import sys

from deploy.xenlab.client import connect
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.lab import XenLab

CHUNK = 65536


def attach(lab: XenLab, host: str, domain: str | None) -> None:
    """Without a domain: the host's serial log so far. With one: its console, until either side ends."""
    machine = next((m for m in lab.machines if m.host.name == host), None)
    if machine is None:
        names = ", ".join(m.host.name for m in lab.machines)
        raise XenlabError("no_such_host", f"there is no {host}; the lab has {names}")
    if domain is None:
        print(machine.serial_tail(lines=1000))
        return
    with connect(lab.plan, machine.host, timeout=10) as connection:
        connection.sendall(json.dumps({"console": domain}).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            if not (byte := connection.recv(1)):
                raise XenlabError("host_silent", "the agent closed the connection")
            answer += byte
        if "error" in (said := json.loads(answer)):
            raise XenlabError(said["error"]["code"], said["error"]["message"])
        connection.settimeout(None)
        with selectors.DefaultSelector() as ready:
            ready.register(connection, selectors.EVENT_READ)
            ready.register(sys.stdin, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is connection:
                        if not (data := connection.recv(CHUNK)):
                            return
                        sys.stdout.buffer.write(data)
                        sys.stdout.buffer.flush()
                    else:
                        if not (line := os.read(sys.stdin.fileno(), CHUNK)):
                            return
                        connection.sendall(line)
