"""Debian's `docker-registry`: one that is not ours."""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "for tests only"
# `htpasswd -nbB tenant "for tests only"`
HTPASSWD = "tenant:$2b$05$RVjIpH4tf4TFaetvrOOWSuuoAf.o9ztU5MqwaNZccYGPtJfnV1XMW\n"


@contextmanager
def docker_registry(folder: Path, *, closed: bool) -> Iterator[str]:
    """Debian's, empty, on a free port: "127.0.0.1:port"."""
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}" if closed else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\n"
        f"log: {{level: info, formatter: text}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:0', secret: none}}\n{auth}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    log = process.stderr
    # It stands still when nobody reads what it writes.
    reader = threading.Thread(target=lambda: [None for _ in log], name="docker-registry's log")
    try:
        for line in log:
            if match := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                reader.start()
                yield match[1]
                return
        pytest.fail("docker-registry did not start")
    finally:
        process.terminate()
        process.wait(10)
        if reader.ident:
            reader.join(10)
        log.close()
