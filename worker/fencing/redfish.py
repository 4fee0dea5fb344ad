"""The power switch of a machine through its Redfish service (DMTF DSP0266; ComputerSystem schema).

HTTPS with the controller's own certificate pinned, HTTP Basic accounts, a deadline for every exchange. It
follows no redirection and sends its password to no other address than the one it was given.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from worker.fencing.port import (
    FenceRefused,
    FenceUnreachable,
    FencingError,
    NotProven,
    PowerState,
)
from worker.hypervisor.xapi.transport import Endpoint, PinnedConnection, TransportError, failed

ROOT = "/redfish/v1/"
# The longest description of a system that real controllers send is some tens of kilobytes.
_MOST_BYTES = 2**20

_STATES = {
    "On": PowerState.ON,
    "Off": PowerState.OFF,
    "PoweringOn": PowerState.CHANGING,
    "PoweringOff": PowerState.CHANGING,
    "Paused": PowerState.ON,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. The whole of a power_off stays below the time that one step may take."""

    per_exchange: float = 8.0
    per_call: float = 40.0
    between_readings: float = 1.0


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Account:
    """How to reach a controller. `url`: its address, or one system's on a controller of several."""

    url: str
    username: str
    password: str
    certificate: str

    def __repr__(self) -> str:
        return f"Account({self.url!r}, {self.username!r})"


@dataclass(frozen=True, slots=True)
class Description:
    """What a controller says of the machine it switches, for a person to recognise it by."""

    path: str
    power: PowerState
    name: str
    maker: str
    model: str
    serial: str
    uuid: str


class Redfish:
    """A Fence. Keeps no connection between calls: weeks lie between them."""

    def __init__(
        self,
        account: Account,
        *,
        patience: Patience = PATIENCE,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ValueError when the account's URL is not https."""
        self._account = account
        self._endpoint = Endpoint.parse(account.url)
        self._patience = patience
        self._now = now
        self._sleep = sleep

    def describe(self) -> Description:
        """Raises FenceUnreachable, FenceRefused."""
        path, system = self._talk().system()
        told = {name: str(system.get(key) or "") for name, key in _SHOWN.items()}
        return Description(path=path, power=_state_of(system), **told)

    def power_state(self) -> PowerState:
        return _state_of(self._talk().system()[1])

    def power_off(self) -> None:
        talk = self._talk()
        path, system = talk.system()
        refusal: FencingError | None = None
        if _state_of(system) is not PowerState.OFF:
            try:
                talk.reset(system, "ForceOff")
            except FencingError as error:
                # Controllers also complain of a reset that they carry out, or that was needless.
                refusal = error
        if not self._reads_off_twice(talk, path, waits=refusal is None):
            raise refusal or NotProven("still_on")

    def power_on(self) -> None:
        talk = self._talk()
        _, system = talk.system()
        if _state_of(system) is not PowerState.ON:
            talk.reset(system, "On")

    def _reads_off_twice(self, talk: _Talk, path: str, *, waits: bool) -> bool:
        """Two readings in a row say "off"; unless it `waits`, the first one that does not ends it."""
        # A reading that might be cut short is not begun: it would be told as a silent controller.
        one_more = self._patience.between_readings + self._patience.per_exchange
        last = None
        while True:
            state = _state_of(talk.read(path))
            if state is last is PowerState.OFF:
                return True
            if not waits and state is not PowerState.OFF:
                return False
            if talk.left() <= one_more:
                return False
            last = state
            self._sleep(self._patience.between_readings)

    def _talk(self) -> _Talk:
        end = self._now() + self._patience.per_call
        return _Talk(
            self._account,
            self._endpoint,
            self._patience.per_exchange,
            lambda: end - self._now(),
        )


class _Talk:
    """Some exchanges with a controller, with one end in time for all of them."""

    def __init__(
        self,
        account: Account,
        endpoint: Endpoint,
        per_exchange: float,
        left: Callable[[], float],
    ) -> None:
        self._account = account
        self._endpoint = endpoint
        self._per_exchange = per_exchange
        self.left = left

    def system(self) -> tuple[str, dict[str, Any]]:
        """The path of the one system that is meant, and what it says of itself."""
        path = urlsplit(self._account.url).path
        if path.strip("/") in ("", ROOT.strip("/")):
            path = self._find()
        return path, self.read(path)

    def read(self, path: str) -> dict[str, Any]:
        system = self._exchange("GET", path)
        if "PowerState" not in system:
            raise FenceRefused("no_power_state")
        return system

    def reset(self, system: dict[str, Any], kind: str) -> None:
        action = (system.get("Actions") or {}).get("#ComputerSystem.Reset")
        if not isinstance(action, dict):
            raise FenceRefused("no_reset")
        kinds = action.get("ResetType@Redfish.AllowableValues")
        if isinstance(kinds, list) and kind not in kinds:
            raise FenceRefused(f"no_{kind}")
        self._exchange("POST", _checked(action.get("target")), {"ResetType": kind})

    def _find(self) -> str:
        systems = _path_in(self._exchange("GET", ROOT).get("Systems"))
        members = self._exchange("GET", systems).get("Members")
        if not isinstance(members, list) or not members:
            raise FenceRefused("no_system")
        if len(members) > 1:
            raise FenceRefused("several_systems")
        return _path_in(members[0])

    def _exchange(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        seconds = min(self._per_exchange, self.left())
        if seconds <= 0:
            raise FenceUnreachable("timeout")
        try:
            connection = PinnedConnection(self._endpoint, self._account.certificate)
            try:
                connection.ready(seconds)
                return _answer(*self._send(connection, method, path, body))
            finally:
                connection.close()
        except (TransportError, OSError, http.client.HTTPException) as error:
            raise FenceUnreachable(failed(error, sent=True).reason) from error

    def _send(
        self, connection: PinnedConnection, method: str, path: str, body: object
    ) -> tuple[int, bytes]:
        login = f"{self._account.username}:{self._account.password}".encode()
        headers = {
            "Authorization": f"Basic {b64encode(login).decode()}",
            "Accept": "application/json",
            "OData-Version": "4.0",
            "Connection": "close",
        }
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
        return response.status, response.read(_MOST_BYTES + 1)


_SHOWN = {
    "name": "Name",
    "maker": "Manufacturer",
    "model": "Model",
    "serial": "SerialNumber",
    "uuid": "UUID",
}


def _state_of(system: dict[str, Any]) -> PowerState:
    return _STATES.get(str(system.get("PowerState")), PowerState.UNKNOWN)


def _answer(status: int, text: bytes) -> dict[str, Any]:
    if status in (401, 403):
        raise FenceRefused("credentials")
    if not 200 <= status < 300:
        raise FenceRefused(f"http_{status}")
    if not text:
        return {}
    try:
        said = json.loads(text) if len(text) <= _MOST_BYTES else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise FenceUnreachable("protocol")
    return said


def _path_in(reference: object) -> str:
    return _checked(reference.get("@odata.id") if isinstance(reference, dict) else None)


def _checked(path: object) -> str:
    """`path` if it is one on this controller: the password goes nowhere else."""
    if not isinstance(path, str) or not re.fullmatch(r"/redfish/[!-~]*", path):
        raise FenceUnreachable("protocol")
    return path
