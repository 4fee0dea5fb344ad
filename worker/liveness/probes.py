"""Asking a host whether it lives. Every probe ends in time and raises nothing: not to know is an answer."""

from __future__ import annotations

import http.client
import ssl
import time

from worker.fencing.port import Fence, FencingError, PowerState
from worker.hypervisor.xapi.transport import DeadlineSocket, Endpoint
from worker.liveness.judge import Reading

API_SECONDS = 5.0


def ask_api(endpoint: Endpoint, seconds: float = API_SECONDS) -> Reading:
    """Alive when the host's own xapi answers anything in HTTP over TLS.

    An open port is not enough: on some hosts a proxy holds it for a xapi that is gone. Nothing secret is
    said, so no certificate is checked; a stranger at this address makes the host look alive, which keeps
    us from touching it.
    """
    try:
        status = _get_root(endpoint, seconds)
    except (OSError, http.client.HTTPException):
        return Reading.SILENT
    return Reading.ALIVE if status else Reading.SILENT


def _get_root(endpoint: Endpoint, seconds: float) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = DeadlineSocket
    connection = http.client.HTTPSConnection(
        endpoint.host, endpoint.port, timeout=seconds, context=context
    )
    try:
        connection.connect()
        if isinstance(connection.sock, DeadlineSocket):
            connection.sock.deadline = time.monotonic() + seconds
        connection.request("HEAD", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def ask_power(fence: Fence) -> Reading:
    """Silent when the machine has no power. That it has some says nothing about what runs on it."""
    try:
        state = fence.power_state()
    except FencingError:
        return Reading.UNKNOWN
    return Reading.SILENT if state is PowerState.OFF else Reading.UNKNOWN
