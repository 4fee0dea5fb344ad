"""Whoever uses a running demonstration from outside: over HTTP, over XAPI, and with kill -9."""

from __future__ import annotations

import http.cookiejar
import json
import os
import signal
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4
from xmlrpc.client import Error as XmlRpcError
from xmlrpc.client import SafeTransport, ServerProxy

TIMEOUT = 20.0
"""Seconds: of one request, answered or not."""


class Caller:
    """A person with a session, on the REST API. A web process that is being started again is waited for."""

    def __init__(self, address: str, name: str, password: str) -> None:
        self.address = address
        self._cookies = http.cookiejar.CookieJar()
        self._open = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies)
        ).open
        self._send(urllib.request.Request(f"{address}/login/"))
        form = {
            "username": name,
            "password": password,
            "csrfmiddlewaretoken": self._cookie("csrftoken"),
        }
        data = urllib.parse.urlencode(form).encode()
        self._send(urllib.request.Request(f"{address}/login/", data, {"Referer": address}))
        assert self._cookie("sessionid"), f"{name} could not sign in"

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """Sent again until it is answered: the key makes that one request."""
        return self._ask("POST", path, body, {"Idempotency-Key": str(uuid4())})

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def all(self, path: str) -> list[Any]:
        """The whole list, page by page."""
        found, following = [], f"{self.address}/api/v1/{path}"
        while following:
            page = self._ask("GET", following)
            found += page["results"]
            following = page["next"]
        return found

    def _ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        address = path if path.startswith("http") else f"{self.address}/api/v1/{path}"
        request = urllib.request.Request(
            address,
            None if body is None else json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "X-CSRFToken": self._cookie("csrftoken"),
                "Referer": self.address,
                **(headers or {}),
            },
            method=method,
        )
        return json.loads(self._send(request) or "null")

    def _send(self, request: urllib.request.Request) -> bytes:
        deadline = time.monotonic() + 60
        while True:
            try:
                with self._open(request, timeout=TIMEOUT) as answer:
                    read: bytes = answer.read()
                    return read
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise AssertionError(f"{request.full_url}: {error.read()!r}") from error
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _cookie(self, name: str) -> str:
        return next((one.value or "" for one in self._cookies if one.name == name), "")


@dataclass(frozen=True)
class Vm:
    uuid: str
    name: str
    power_state: str
    host: str
    started: str


class _Transport(SafeTransport):
    """One that does not wait for a dead host for long."""

    def make_connection(self, host: Any) -> Any:
        connection = super().make_connection(host)
        connection.timeout = TIMEOUT
        return connection


class PoolAsSeen:
    """What the lab's pool itself says, whatever we believe; and its control API."""

    def __init__(self, urls: list[str], password: str, control: str) -> None:
        self._urls, self._password, self.control = urls, password, control

    def vms(self) -> dict[str, Vm]:
        """Of ours, by uuid. Raises xmlrpc.client.Error, OSError."""
        hosts, metrics, vms = self.records("host", "VM_metrics", "VM")
        return {
            vm["uuid"]: Vm(
                vm["uuid"],
                vm["name_label"],
                vm["power_state"],
                hosts.get(vm["resident_on"], {}).get("name_label", ""),
                str(metrics.get(vm["metrics"], {}).get("start_time", "")),
            )
            for vm in vms.values()
            if vm["name_label"].startswith("instance-") and not vm["is_a_template"]
        }

    def records(self, *classes: str) -> list[dict[str, Any]]:
        """Of each class all records, by reference, as the pool's master has them.

        Raises what the last host did, xmlrpc.client.Error, OSError or AssertionError, when none is master.
        """
        for url in self._urls[:-1]:
            with suppress(XmlRpcError, OSError, AssertionError):
                return self._records(url, classes)
        return self._records(self._urls[-1], classes)

    def _records(self, url: str, classes: tuple[str, ...]) -> list[dict[str, Any]]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with ServerProxy(url, transport=_Transport(context=context)) as server:
            session = _value(server.session.login_with_password("root", self._password, "", "e2e"))
            return [_value(getattr(server, name).get_all_records(session)) for name in classes]

    def violations(self) -> list[Any]:
        with urllib.request.urlopen(f"{self.control}/violations", timeout=TIMEOUT) as answer:
            found: list[Any] = json.load(answer)
        return found

    def cut_power(self, host: str) -> None:
        self._switch(host, "off")

    def give_power(self, host: str) -> None:
        self._switch(host, "on")

    def _switch(self, host: str, state: str) -> None:
        request = urllib.request.Request(
            f"{self.control}/hosts/{host}/power",
            json.dumps({"state": state}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=TIMEOUT).close()


def _value(answer: Any) -> Any:
    assert answer["Status"] == "Success", answer
    return answer["Value"]


# ---------------------------------------------------------------------------------------------- processes


def children_of(supervisor: int) -> Iterator[tuple[int, str]]:
    """Number and name of each process that runs directly below it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (folder / "stat").read_text().rpartition(")")
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if int(fields.split()[1]) == supervisor and fields.split()[0] != "Z":
            yield int(folder.name), f"{name.partition('(')[2]} {words}"


def kill(supervisor: int, kind: str) -> bool:
    """kill -9 the child whose name or command has `kind` in it; False when there is none just now."""
    for number, name in children_of(supervisor):
        if kind in name:
            os.kill(number, signal.SIGKILL)
            return True
    return False


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Look every half second. What cannot be asked just now does not hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
