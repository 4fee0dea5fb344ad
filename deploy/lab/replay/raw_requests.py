"""Raw HTTP requests as they were sent, rebuilt from how the recordings write them down."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

_CALL = (
    '<?xml version="1.0"?><methodCall><methodName>session.get_uuid</methodName><params>'
    "<param><value>OpaqueRef:x</value></param><param><value>{text}</value></param>"
    "</params></methodCall>"
)


class NotUnderstood(ValueError):
    """A request is described in words that are not known."""


def build(text: str, username: str, password: str) -> bytes:
    """The bytes of a request. What is written down whole has "\\n" for line ends.

    Raises NotUnderstood.
    """
    if "\n" in text:
        head, blank, body = text.partition("\n\n")
        if not blank:
            return head.replace("\n", "\r\n").encode()
        if re.search(r"^Transfer-Encoding: *chunked", head, re.MULTILINE | re.IGNORECASE):
            body = body.replace("\n", "\r\n")
        return (head.replace("\n", "\r\n") + "\r\n\r\n" + body).encode()
    for pattern, make in _DESCRIPTIONS:
        found = re.fullmatch(pattern, text)
        if found:
            return make(found, username, password)
    return _in_pieces(text)


def _in_pieces(text: str) -> bytes:
    """A request line, then headers and the body's description, apart by commas."""
    line, *pieces = text.split(", ")
    if re.fullmatch(r"[A-Z]+ \S+", line):
        line += " HTTP/1.1"
    if re.fullmatch(r"[A-Z]+ \S+ HTTP/\S+", line) is None:
        raise NotUnderstood(f"The request {text!r} does not begin with a request line.")
    headers, body = [], b""
    for piece in pieces:
        if found := re.fullmatch(r"Content-Length (\d+)", piece):
            headers.append(f"Content-Length: {found.group(1)}")
            body = bytes(int(found.group(1)))
        elif found := re.fullmatch(r"(\d+) zero bytes as body", piece):
            body = bytes(int(found.group(1)))
        elif found := re.fullmatch(r"one header (\S+) of (\d+) bytes", piece):
            headers.append(f"{found.group(1)}: {'x' * int(found.group(2))}")
        elif piece == "no body":
            body = b""
        elif re.fullmatch(r"[A-Za-z-]+: .*", piece):
            headers.append(piece)
        elif piece != "zero bytes as body":
            raise NotUnderstood(f"{piece!r} of the request {text!r} is not known.")
    if not any(header.startswith("Host:") for header in headers):
        headers.insert(0, "Host: x")
    return "\r\n".join([line, *headers, "", ""]).encode() + body


Make = Callable[["re.Match[str]", str, str], bytes]


def _long_call(found: re.Match[str], username: str, password: str) -> bytes:
    body = _CALL.format(text="x" * (int(found["size"]) * 1024)).encode()
    head = f"{found['line']} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _no_body(found: re.Match[str], username: str, password: str) -> bytes:
    return (
        f"{found['line']} HTTP/1.1\r\nHost: x\r\nContent-Length: {found['size']}\r\n\r\n".encode()
    )


def _basic(found: re.Match[str], username: str, password: str) -> bytes:
    given = password if found["which"] == "right" else "wrong"
    token = base64.b64encode(f"{username}:{given}".encode()).decode()
    return f"{found['line']} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\n\r\n".encode()


_DESCRIPTIONS: tuple[tuple[str, Make], ...] = (
    (
        r"(?P<line>[A-Z]+ \S+) with a well-formed call whose one string is (?P<size>\d+) KiB",
        _long_call,
    ),
    (r"(?P<line>[A-Z]+ \S+) with Content-Length (?P<size>\d+) and no body", _no_body),
    (r"(?P<line>[A-Z]+ \S+) with basic authentication, (?P<which>\w+) password", _basic),
)
