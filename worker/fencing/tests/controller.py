"""A Redfish controller that says what its test wants it to, over real HTTPS."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.lab.certificates import make_certificate, server_context
from worker.fencing.redfish import Account

SYSTEM = "/redfish/v1/Systems/blade"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"


@dataclass
class Controller:
    """`states` are told one a reading, the last one for ever; `resets` are the bodies that came."""

    states: list[str | None] = field(default_factory=lambda: ["On"])
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    resets: list[dict[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    account: Account = field(init=False)

    def system(self) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {
            "Name": "Blade",
            "SerialNumber": "S-1",
            "PowerState": state,
            "Actions": {"#ComputerSystem.Reset": {"target": RESET}},
        }

    def answer(self, path: str) -> tuple[int, Any]:
        pages: dict[str, Callable[[], tuple[int, Any]]] = {
            "/redfish/v1/": lambda: (200, {"Systems": {"@odata.id": "/redfish/v1/Systems"}}),
            "/redfish/v1/Systems": lambda: (200, {"Members": [{"@odata.id": SYSTEM}]}),
            SYSTEM: lambda: (200, self.system()),
            RESET: lambda: (204, None),
        }
        if path in self.answers:
            return self.answers[path]
        return pages[path]() if path in pages else (404, {"error": {}})


@contextmanager
def running_controller(**given: Any) -> Iterator[Controller]:
    controller = Controller(**given)
    key, certificate = make_certificate("bmc", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*controller.answer(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == RESET:
                controller.resets.append(json.loads(body))
            self._say(*controller.answer(self.path))

        def _say(self, status: int, body: Any) -> None:
            controller.logins.append(self.headers["Authorization"])
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "https://192.0.2.1/redfish/v1/")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = server_context(key, certificate).wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    url = f"https://127.0.0.1:{server.server_address[1]}"
    controller.account = Account(url, "admin", "geheim", certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield controller
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
