"""Answers without a page: what the daemon's lower layers and its sister daemons send."""

from __future__ import annotations

from deploy.lab.http.server import Request

NO_CACHE = "Cache-Control: no-cache, no-store"


async def send_bare(request: Request, status: str, *headers: str, body: bytes = b"") -> None:
    """Send a status, headers and perhaps a body that the end of the connection ends."""
    head = "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", NO_CACHE, *headers, "", ""])
    request.writer.write(head.encode() + body)
    await request.writer.drain()
