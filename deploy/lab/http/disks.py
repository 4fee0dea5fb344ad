"""Disks over HTTP: PUT /import_raw_vdi and GET /export_raw_vdi.

The status goes out before the data are read; how it ended stands in the task (XAPI.md 2.3;
xen-api import_raw_vdi.ml, export_raw_vdi.ml; recorded: http_import_export).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape
from urllib.parse import quote

from deploy.lab.classes.storage_hosts import sees
from deploy.lab.classes.vdi_copies import opened
from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.http import tar_stream, vhd_stream
from deploy.lab.http.access import Refused, authenticate
from deploy.lab.http.bare import NO_CACHE, send_bare
from deploy.lab.http.server import (
    HEADER_TIMEOUT,
    LONGEST_HEADERS,
    Request,
    Response,
    handler,
    headers_too_large,
    internal_error,
)
from deploy.lab.http.tar_stream import StreamError
from deploy.lab.schema import NULL, SCHEMA
from deploy.lab.wire import to_xml

PIECE = 1024**2
_Write = Callable[[int, bytes], None]
_FRAME = struct.Struct("<QI")
_TYPES = {"raw": "octet-stream", "vhd": "vhd", "tar": "x-tar"}


@handler("PUT", "/import_raw_vdi")
async def import_raw_vdi(request: Request) -> Response | None:
    try:
        access = await authenticate(request, "put_import_raw_vdi", "vm-admin")
    except Refused as refused:
        return refused.response
    with access as session:
        call = _call(request, session)
        try:
            vdi = _disk(call, request, "http/put_import_raw_vdi")
            if vdi is None:
                _fail_given_task(call, request, XapiError("VDI_MISSING"))
                await send_bare(request, "400 Bad Request")
                await _go_on(request)
                return None
            if await _redirected(call, request, vdi):
                return None
            _open_task(call, request, "Importing raw VDI")
        except _Broken as broken:
            return internal_error(broken.detail)
        await _import(call, request, vdi)
        return None


@handler("GET", "/export_raw_vdi")
async def export_raw_vdi(request: Request) -> Response | None:
    try:
        access = await authenticate(request, "get_export_raw_vdi", "vm-admin")
    except Refused as refused:
        return refused.response
    with access as session:
        call = _call(request, session)
        try:
            vdi = _disk(call, request, "http/get_export_raw_vdi")
            if vdi is None:
                return internal_error(_quoted('Failure("Missing vdi query parameter")'))
            if await _redirected(call, request, vdi):
                return None
            _open_task(call, request, "Exporting raw VDI")
        except _Broken as broken:
            return internal_error(broken.detail)
        await _export(call, request, vdi)
        return None


# --- before the data


class _Broken(Exception):
    """The request fails with a page that shows the daemon's exception."""

    def __init__(self, exception: str) -> None:
        super().__init__(exception)
        self.detail = _quoted(exception)


def _quoted(exception: str) -> str:
    return escape(exception, quote=True).replace("&#x27;", "&apos;")


def _parameters(request: Request) -> dict[str, str]:
    return {**request.cookies, **request.query}


def _call(request: Request, session: Row) -> Call:
    return Call(request.lab, request.machine, SCHEMA.messages["VDI.update"], session, via="http")


def _disk(call: Call, request: Request, action: str) -> Row | None:
    """The disk that the request names, by reference or uuid; None when it names none.

    A wrong name fails the request, and with a text of its own the task that was given.
    """
    wanted = _parameters(request).get("vdi")
    if wanted is None:
        return None
    table = call.db.tables["VDI"]
    row = table.rows.get(wanted) or table.rows.get(table.by_uuid.get(wanted, NULL))
    if row is None:
        text = f"UUID_INVALID: [ VDI; {wanted} ]"
        _fail_given_task(call, request, XapiError("RBAC_PERMISSION_DENIED", action, text))
        raise _Broken(f'Db_exn.Read_missing_uuid("VDI", "", "{wanted}")')
    return row


def _fail_given_task(call: Call, request: Request, error: XapiError) -> None:
    task = call.db.find("task", _parameters(request).get("task_id", NULL))
    if task is not None:
        call.task, call.task_row = task.ref, task
        call.lab.tasks.fail(call, error)


def _open_task(call: Call, request: Request, label: str) -> None:
    """Work under the task that was given, or under one that goes with the request."""
    given = _parameters(request).get("task_id")
    if given is None:
        call.task_row = call.lab.tasks.make(call, label)
    else:
        call.task_row = call.db.find("task", given)
        if call.task_row is None:
            raise _Broken(f'Db_exn.DBCache_NotFound("missing row", "task", "{given}")')
        call.db.update(call.task_row, resident_on=call.machine.host.ref)
    call.task = call.task_row.ref
    call.db.update(call.task_row, allowed_operations=["cancel"])
    call.lab.tasks.calls[call.task] = call


def _close_task(call: Call, request: Request) -> None:
    call.lab.tasks.calls.pop(call.task, None)
    if "task_id" not in _parameters(request) and call.task_row is not None:
        call.db.delete(call.task_row)


async def _redirected(call: Call, request: Request, vdi: Row) -> bool:
    """Send the client to a host that sees the disk's SR, when this one does not."""
    sr = call.db.get("SR", vdi.SR)
    hosts = [pbd.host for pbd in call.db.rows("PBD", sr.PBDs) if pbd.currently_attached]
    if sees(call, call.machine, sr):
        hosts = [host for host in hosts if host != call.machine.host.ref]
        if not (request.method == "PUT" and hosts and call.lab.faults.take_redirected_import()):
            return False
    if not hosts:
        raise _Broken("Not_found")
    other = call.lab.machine(hosts[0])
    is_tls = request.writer.get_extra_info("ssl_object") is not None
    port = "" if other.port in (0, 443) else f":{other.port}"
    query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in request.query.items())
    target = f"{'https' if is_tls else 'http'}://{other.address}{port}{request.path}?{query}"
    await send_bare(request, "302 Found", f"Location: {target}")
    await _go_on(request)
    return True


async def _go_on(request: Request) -> None:
    """The daemon takes what follows a refused upload for the next request's headers."""
    received = b""
    try:
        async with asyncio.timeout(HEADER_TIMEOUT):
            while len(received) <= LONGEST_HEADERS:
                piece = await request.reader.read(LONGEST_HEADERS + 1)
                received += piece
                if not piece or b"\r\n\r\n" in received:
                    return
    except TimeoutError:
        return
    request.writer.write(headers_too_large().render("HTTP/1.1", keep_alive=False))
    await request.writer.drain()


async def _not_found(call: Call, request: Request, reason: str) -> None:
    call.lab.tasks.fail(call, XapiError("INTERNAL_ERROR", reason))
    head = f"HTTP/1.0 404 Not Found\r\nConnection: close\r\n{NO_CACHE}\r\n\r\n"
    request.writer.write(head.encode())
    await request.writer.drain()


# --- import


async def _import(call: Call, request: Request, vdi: Row) -> None:
    try:
        kind = _parameters(request).get("format", "raw").lower()
        chunked = "chunked" in _parameters(request)
        refusal = _refusal(kind, chunked, request.headers.get("transfer-encoding"))
        if refusal:
            await _not_found(call, request, refusal)
            return
        content = "content-type: application/octet-stream"
        await send_bare(request, "200 OK", f"task-id:{call.task}", content)
        work = _receive(call, request, vdi, kind, chunked=chunked)
        await _finish(call, request, work, to_xml(vdi.ref))
    finally:
        _close_task(call, request)


def _refusal(kind: str, chunked: bool, encoding: str | None) -> str:
    if kind not in _TYPES:
        return f"Unknown format {kind}"
    if chunked and kind != "raw":
        return "Cannot handle chunked VHD"
    return f"Cannot handle encoding: {encoding}" if encoding is not None else ""


async def _finish(call: Call, request: Request, work: Awaitable[None], result: str) -> None:
    """Carry the transfer out; the task, and after it the open connection, tell how it ended."""
    life = call.machine.life
    try:
        await work
    except (ConnectionError, asyncio.IncompleteReadError):
        if call.machine.life == life:
            call.lab.tasks.fail(call, XapiError("VDI_IO_ERROR", "Device I/O errors"))
        raise
    except StreamError as error:
        await _tell(call, request, XapiError("INTERNAL_ERROR", str(error)), str(error))
    except XapiError as error:
        parameters = "; ".join(error.parameters)
        await _tell(call, request, error, f"Server_error({error.code}, [ {parameters} ])")
    else:
        call.lab.tasks.succeed(call, result)


async def _tell(call: Call, request: Request, error: XapiError, exception: str) -> None:
    call.lab.tasks.fail(call, error)
    if request.method == "PUT":
        await send_bare(request, "400 Bad Request")
    page = internal_error(_quoted(exception))
    request.writer.write(page.render("HTTP/1.1", keep_alive=False))
    await request.writer.drain()


async def _receive(call: Call, request: Request, vdi: Row, kind: str, *, chunked: bool) -> None:
    """Write the request's data to the disk."""
    text = request.headers.get("content-length", "")
    length = int(text) if text.isdigit() else None
    fails = call.lab.faults.take_failing_import()

    def write(offset: int, data: bytes) -> None:
        call.check_cancelled()
        call.lab.storage.write(vdi, offset, data)
        if fails:
            raise XapiError("VDI_IO_ERROR", "Device I/O errors")

    async with opened(call, vdi, call.machine, "RW"):
        try:
            await call.lab.clock.sleep(call.lab.storage.times.upload)
            if kind == "tar":
                await tar_stream.receive(request.reader, vdi.virtual_size, write)
            elif kind == "vhd":
                await vhd_stream.receive(request.reader, length, vdi.virtual_size, write)
            elif chunked:
                await _receive_frames(request, write)
            else:
                await _receive_raw(call, request, length or 0, write)
        finally:
            call.lab.storage.settle(vdi)


async def _receive_raw(call: Call, request: Request, length: int, write: _Write) -> None:
    offset, task = 0, call.task_row
    while offset < length:
        data = await request.reader.readexactly(min(PIECE, length - offset))
        write(offset, data)
        offset += len(data)
        if task is not None and offset % (64 * PIECE) == 0:
            call.db.update(task, progress=offset / length)


async def _receive_frames(request: Request, write: _Write) -> None:
    """Little-endian offset (8 bytes), length (4), data; twelve zero bytes end it."""
    while True:
        offset, length = _FRAME.unpack(await request.reader.readexactly(_FRAME.size))
        if length == 0:
            return
        while length > 0:
            data = await request.reader.readexactly(min(PIECE, length))
            write(offset, data)
            offset, length = offset + len(data), length - len(data)


# --- export


async def _export(call: Call, request: Request, vdi: Row) -> None:
    try:
        kind = _parameters(request).get("format", "raw").lower()
        if kind not in _TYPES:
            await _not_found(call, request, f"Unknown format {kind}")
            return
        await send_bare(
            request,
            "200 OK",
            f"task-id:{call.task}",
            f"content-type:application/{_TYPES[kind]}",
            f'content-disposition: attachment; filename="{vdi.uuid}.{kind}"',
        )
        await _finish(call, request, _send(call, request, vdi, kind), "")
    finally:
        _close_task(call, request)


async def _send(call: Call, request: Request, vdi: Row, kind: str) -> None:
    if kind == "vhd" and vdi.virtual_size > vhd_stream.LARGEST:
        raise XapiError("VDI_TOO_LARGE", vdi.ref, str(vhd_stream.LARGEST))

    def read(offset: int, length: int) -> bytes:
        call.check_cancelled()
        return call.lab.storage.read(vdi, offset, length)

    async with opened(call, vdi, call.machine, "RO"):
        await call.lab.clock.sleep(call.lab.storage.times.upload)
        async for piece in _pieces(call, vdi, kind, read):
            request.writer.write(piece)
            await request.writer.drain()


def _pieces(
    call: Call, vdi: Row, kind: str, read: Callable[[int, int], bytes]
) -> AsyncIterator[bytes]:
    size, used = vdi.virtual_size, call.lab.storage.used_chunks
    if kind == "tar":
        return tar_stream.send(size, used(vdi, tar_stream.CHUNK), read)
    if kind == "vhd":
        return vhd_stream.send(size, used(vdi, vhd_stream.BLOCK), read)
    return _raw(size, read)


async def _raw(size: int, read: Callable[[int, int], bytes]) -> AsyncIterator[bytes]:
    for offset in range(0, size, PIECE):
        yield read(offset, min(PIECE, size - offset))
