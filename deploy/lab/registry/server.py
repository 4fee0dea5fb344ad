"""The registry on a port of this machine's, in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from deploy.lab.registry.app import Registry


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's."""
        yield


@contextlib.contextmanager
def serving(
    registry: Registry,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    certificate: Path | None = None,
) -> Iterator[str]:
    """Answers at the yielded "address:port" for as long as the `with` lasts.

    `certificate` is a PEM file with key and certificate; without one it is plain HTTP. Raises OSError when
    the port is taken.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with listening:
        listening.bind((address, port))
        listening.listen(128)
        config = uvicorn.Config(
            registry.application(),
            log_config=None,
            log_level="critical",  # a connection cut on purpose is no error
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate,
        )
        server = _Server(config)
        config.load()
        thread = threading.Thread(target=server.run, args=([listening],), name="registry")
        thread.start()
        try:
            yield f"{address}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
