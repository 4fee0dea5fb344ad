"""A scripted XAPI host over TLS: answers what a test tells it to, and remembers what it was asked."""

import contextlib
import datetime
import functools
import http.server
import ipaddress
import json
import socket
import ssl
import tempfile
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[..., Any]


class Fault(Exception):
    """XAPI refuses: code and parameters."""


class Drop(Exception):
    """The connection ends without an answer."""


class Drip(Exception):
    """The answer comes a byte at a time, never in full."""


@functools.cache
def identity(name: str) -> tuple[str, str]:
    """(certificate, key) in PEM, self-signed as a host's own is."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


class ScriptedHost:
    """`answers` maps a method to a function of its parameters; what is missing is refused."""

    def __init__(self, name: str, address: str = "127.0.0.1") -> None:
        self.name = name
        self.certificate, self._key = identity(name)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.connections = 0
        self.page = b""
        self._kept: list[socket.socket] = []
        self.answers: dict[str, Answer] = {
            "session.login_with_password": lambda *_: f"OpaqueRef:session-of-{name}",
            "session.logout": lambda *_: "",
            "session.get_this_host": lambda *_: "OpaqueRef:this-host",
            "host.get_all_records": lambda *_: {},
        }
        self._server = self._listen(address)
        self.port = self._server.server_address[1]
        self.address = f"{address}:{self.port}"
        self.url = f"https://{self.address}"

    def count(self, method: str) -> int:
        return sum(1 for asked, _ in self.asked if asked == method)

    def stop(self) -> None:
        """Be gone, kept connections included."""
        self._server.shutdown()
        for connection in self._kept:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def _listen(self, address: str) -> http.server.ThreadingHTTPServer:
        server = http.server.ThreadingHTTPServer((address, 0), self._handler())
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a dropped client
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
            pem.write(self.certificate + self._key)
            pem.flush()
            context.load_cert_chain(Path(pem.name))
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                host.connections += 1
                host._kept.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                host._reply(self, self.path == "/jsonrpc", body)

            def do_GET(self) -> None:
                """Also PUT and CONNECT: the bytes that the test gives, then the end."""
                host.asked.append((self.command, (self.path,)))
                self.wfile.write(host.page)
                self.close_connection = True

            do_PUT = do_CONNECT = do_GET

            def log_message(self, *_: Any) -> None: ...

        return Handler

    def _reply(self, handler: Any, is_json: bool, body: bytes) -> None:
        if is_json:
            request = json.loads(body)
            method, params = request["method"], tuple(request["params"])
        else:
            params, method = xmlrpc.client.loads(body.decode())[0:2]
        self.asked.append((method, params))
        try:
            text = self._said(is_json, method, params)
        except Drop:
            handler.close_connection = True
            handler.connection.close()
            return
        except Drip:
            self._drip(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/xml")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def _said(self, is_json: bool, method: str, params: tuple[Any, ...]) -> bytes:
        try:
            if method not in self.answers:
                raise Fault("MESSAGE_METHOD_UNKNOWN", method)
            value = self.answers[method](*params)
        except Fault as fault:
            code, *rest = fault.args
            if is_json:
                error = {"code": 1, "message": code, "data": rest}
                return json.dumps({"jsonrpc": "2.0", "error": error, "id": 1}).encode()
            reply = {"Status": "Failure", "ErrorDescription": [code, *rest]}
            return xmlrpc.client.dumps((reply,), methodresponse=True).encode()
        if is_json:
            return json.dumps({"jsonrpc": "2.0", "result": value, "id": 1}).encode()
        reply = {"Status": "Success", "Value": value}
        return xmlrpc.client.dumps((reply,), methodresponse=True).encode()

    def _drip(self, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)


@contextlib.contextmanager
def scripted_host(name: str = "h1") -> Iterator[ScriptedHost]:
    host = ScriptedHost(name)
    try:
        yield host
    finally:
        host.stop()
