"""Text consoles: CONNECT /console for raw bytes, GET /console for a WebSocket (XAPI.md 5.5).

Only the host where the VM runs serves them. Facts: xen-api console.ml; recorded: http_basics.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    TextMessage,
)
from wsproto.events import Request as Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.http.access import Refused, authenticate, has_role
from deploy.lab.http.bare import NO_CACHE, send_bare
from deploy.lab.http.server import Request, Response, forbidden, handler, internal_error, page

if TYPE_CHECKING:
    from deploy.lab.guest import Console, Guest
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

SUBPROTOCOL = "binary"
LARGEST_READ = 64 * 1024
LOOK_EVERY = 1.0
LARGEST_BACKLOG = 1024 * 1024
"""Bytes that a client may leave unread before it is cut off."""


class NoConsole(Exception):
    """There is nothing to connect to; the daemon's own words are in no answer."""


@handler("CONNECT", "/console")
async def connect(request: Request) -> Response | None:
    """Answer 200 and pass bytes both ways until one side ends it."""
    try:
        access = await authenticate(request, "connect_console", "vm-operator")
        with access as session:
            row = _console(request, session)
            view = _view(request, row)
            if view is None:
                await send_bare(request, "404 Not Found")
                return None
            users = _viewers(request.lab, row.VM)
            if request.lab.pool.limit_console_sessions and users:
                return _limit_exceeded(users)
            with _counted(users, session.auth_user_name):
                await _proxy(request, view)
    except Refused as refused:
        return refused.response
    except NoConsole:
        return internal_error("Console.Failure")
    return None


@handler("GET", "/console")
async def web_socket(request: Request) -> Response | None:
    """Upgrade to a WebSocket (subprotocol `binary`) and pass bytes both ways."""
    try:
        access = await authenticate(request, "connect_console_ws", "vm-operator")
        with access as session:
            row = _console(request, session)
            view = _view(request, row)
            if view is None:
                await send_bare(request, "404 Not Found")
            elif request.lab.pool.limit_console_sessions:
                await send_bare(request, "503 Service Unavailable")
            else:
                with _counted(_viewers(request.lab, row.VM), session.auth_user_name):
                    await _serve_web_socket(request, view)
    except Refused as refused:
        return refused.response
    except NoConsole:
        return internal_error("Console.Failure")
    return None


def _console(request: Request, session: Row) -> Row:
    """The console asked for by ?ref= or ?uuid=, of itself or of its VM. Raises NoConsole, Refused."""
    db = request.lab.db
    ref = request.query.get("ref")
    if "uuid" in request.query:
        ref = _by_uuid(request, request.query["uuid"])
    if ref is None:
        raise NoConsole
    row = db.find("console", ref)
    if row is None:
        row = _default_console(request, ref)
    vm = db.get("VM", row.VM)
    if vm.is_control_domain and not has_role(request, session, "pool-admin"):
        raise Refused(forbidden())
    if vm.power_state != "Running" or vm.resident_on != request.machine.host.ref:
        raise NoConsole
    return row


def _by_uuid(request: Request, uuid: str) -> str:
    for cls in ("VM", "console"):
        with contextlib.suppress(XapiError):
            return request.lab.db.by_uuid(cls, uuid).ref
    raise NoConsole


def _default_console(request: Request, vm: str) -> Row:
    """Of a VM the graphical console is meant; one that has none but a text console means that."""
    row = request.lab.db.find("VM", vm)
    consoles = request.lab.db.rows("console", row.consoles) if row is not None else []
    for protocol in ("rfb", "vt100"):
        for console in consoles:
            if console.protocol == protocol:
                return console
    raise NoConsole


@dataclass(frozen=True)
class View:
    """A guest's console as it is seen on one machine."""

    machine: Machine
    uuid: str
    guest: Guest

    @property
    def console(self) -> Console:
        return self.guest.console

    async def until_gone(self) -> None:
        """Return when the guest's domain is no longer on the machine."""
        while self.machine.domains.get(self.uuid) is self.guest:
            await self.machine.lab.clock.sleep(LOOK_EVERY)


def _view(request: Request, row: Row) -> View | None:
    uuid = request.lab.db.get("VM", row.VM).uuid
    guest = request.machine.domains.get(uuid)
    return View(request.machine, uuid, guest) if guest is not None else None


_viewing: WeakKeyDictionary[Lab, dict[str, list[str]]] = WeakKeyDictionary()


def _viewers(lab: Lab, vm: str) -> list[str]:
    """The users who watch a VM's consoles now; the list itself, to be kept by `_counted`."""
    return _viewing.setdefault(lab, {}).setdefault(vm, [])


@contextlib.contextmanager
def _counted(users: list[str], user: str) -> Iterator[None]:
    users.append(user)
    try:
        yield
    finally:
        users.remove(user)


def _limit_exceeded(users: list[str]) -> Response:
    names = f"User '{users[0]}' is" if len(users) == 1 else f"Users '{', '.join(users)}' are"
    return page(
        "503 Connection Limit Exceeded",
        "Connection Limit Exceeded",
        f"<p>{names} currently connected to this console. No new connections are allowed. Please"
        " check the limit_console_sessions config and try again later.</p>",
    )


# --- bytes both ways


class _Screen:
    """What the console has shown so far and goes on to show, as long as the client keeps up."""

    def __init__(self, console: Console) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting = 0
        self._fell_behind = False
        self._show(console.output)
        self._unsubscribe = console.subscribe(self._show)

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()

    def _show(self, data: bytes) -> None:
        self._fell_behind |= self._waiting + len(data) > LARGEST_BACKLOG
        if data and not self._fell_behind:
            self._waiting += len(data)
            self._chunks.put_nowait(data)

    async def next(self) -> bytes | None:
        """The next bytes; None when the client has fallen too far behind."""
        if self._fell_behind:
            return None
        data = await self._chunks.get()
        self._waiting -= len(data)
        return data


async def _proxy(request: Request, view: View) -> None:
    head = f"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n{NO_CACHE}\r\n\r\n"
    request.writer.write(head.encode())
    with _Screen(view.console) as screen:
        await _until_first_ends(
            _type_bytes(request, view.console), _show_bytes(request, screen), view.until_gone()
        )


async def _type_bytes(request: Request, console: Console) -> None:
    while data := await request.reader.read(LARGEST_READ):
        console.type(data)


async def _show_bytes(request: Request, screen: _Screen) -> None:
    while (data := await screen.next()) is not None:
        request.writer.write(data)
        await request.writer.drain()


async def _until_first_ends(*directions: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve_web_socket(request: Request, view: View) -> None:
    socket = WSConnection(ConnectionType.SERVER)
    try:
        socket.receive_data(_handshake(request))
        opening = next(iter(socket.events()), None)
    except RemoteProtocolError:
        opening = None
    if not isinstance(opening, Handshake):
        await send_bare(request, "501 Method not implemented")
        return
    offered = SUBPROTOCOL if SUBPROTOCOL in opening.subprotocols else None
    request.writer.write(socket.send(AcceptConnection(subprotocol=offered)))
    with _Screen(view.console) as screen:
        await _until_first_ends(
            _receive_frames(request, socket, view.console),
            _send_frames(request, socket, screen),
            view.until_gone(),
        )
    with contextlib.suppress(LocalProtocolError, ConnectionError):
        request.writer.write(socket.send(CloseConnection(code=1000)))
        await request.writer.drain()


def _handshake(request: Request) -> bytes:
    """The opening request again, for the protocol library to judge."""
    lines = [f"GET {request.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _receive_frames(request: Request, socket: WSConnection, console: Console) -> None:
    while data := await request.reader.read(LARGEST_READ):
        try:
            socket.receive_data(data)
            for event in socket.events():
                if _is_over(request, event, socket, console):
                    return
        except RemoteProtocolError as error:
            if error.event_hint is not None:
                request.writer.write(socket.send(error.event_hint))
            return


def _is_over(request: Request, event: Event, socket: WSConnection, console: Console) -> bool:
    match event:
        case CloseConnection():
            request.writer.write(socket.send(event.response()))
            return True
        case Ping():
            request.writer.write(socket.send(event.response()))
        case BytesMessage():
            console.type(bytes(event.data))
        case TextMessage():
            console.type(event.data.encode())
    return False


async def _send_frames(request: Request, socket: WSConnection, screen: _Screen) -> None:
    while (data := await screen.next()) is not None:
        request.writer.write(socket.send(BytesMessage(data=data)))
        await request.writer.drain()
