"""What a registry can be told to do wrong, request by request."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

Kind = Literal["status", "headers", "wrong_bytes", "cut", "endless", "redirect"]


@dataclass
class Fault:
    """Befalls requests whose path matches `path`, so often as `times` says."""

    path: str
    """A regular expression, searched in the path."""
    kind: Kind
    times: int = 1_000_000
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    to: str = ""
    """redirect: where."""


class Faults:
    """Thread-safe: tests tell, the server asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, path: str, kind: Kind, **details: object) -> None:
        with self._lock:
            self._faults.append(Fault(path, kind, **details))  # type: ignore[arg-type]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


def spoil(fault: Fault, request: Request, response: Response) -> Response:
    """The answer as the fault has it, in place of the right one."""
    match fault.kind:
        case "status":
            return Response("told to fail", fault.status, fault.headers)
        case "headers":
            response.headers.update(fault.headers)
            return response
        case "redirect":
            return Response(b"", fault.status, {**fault.headers, "Location": fault.to})
        case "wrong_bytes":
            body = bytes(response.body)
            return Response(
                body[:-1] + bytes([body[-1] ^ 1]), response.status_code, _kept(response)
            )
        case "cut":
            body = bytes(response.body)
            return StreamingResponse(_cut(body), response.status_code, _kept(response))
        case "endless":
            headers = _kept(response)
            headers.pop("content-length", None)
            return StreamingResponse(_endless(request), 200, headers)


def _kept(response: Response) -> dict[str, str]:
    return dict(response.headers)


async def _cut(body: bytes) -> AsyncIterator[bytes]:
    """Half of what Content-Length promises; the server then closes the connection."""
    yield body[: len(body) // 2]


async def _endless(request: Request) -> AsyncIterator[bytes]:
    while not await request.is_disconnected():
        yield bytes(65536)
