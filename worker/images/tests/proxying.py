"""A proxy that makes tunnels, as small as it can be, and remembers what it was asked."""

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []
        self.leads_to: dict[str, tuple[str, int]] = {}
        """Of names that only the proxy knows: where they are."""
        self.status = ""
        self.password = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        line = self.rfile.readline().decode("latin-1").split()
        headers = dict[str, str]()
        while header := self.rfile.readline().strip():
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        method, target = line[0], line[1]
        self.server.asked.append(f"{method} {target}")
        status = self.server.status or self._refusal(method, headers)
        if status:
            self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host, _, port = target.rpartition(":")
        where = self.server.leads_to.get(target, (host.strip("[]"), int(port)))
        with suppress(OSError), socket.create_connection(where, 10) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pass_on(there)

    def _refusal(self, method: str, headers: dict[str, str]) -> str:
        if method != "CONNECT":
            return "405 Method Not Allowed"
        wanted = f"Basic {base64.b64encode(self.server.password.encode()).decode()}"
        if self.server.password and headers.get("proxy-authorization") != wanted:
            return "407 Proxy Authentication Required"
        return ""

    def _pass_on(self, there: socket.socket) -> None:
        pair = {self.connection: there, there: self.connection}
        while True:
            ready, _, _ = select.select(list(pair), [], [], 30)
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                pair[one].sendall(data)
            if not ready:
                return


@contextmanager
def proxying() -> Iterator[Proxy]:
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), name="proxy")
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
