"""The two ways to call: XML-RPC at / and JSON-RPC at /jsonrpc (FACTS 1; recorded: jsonrpc_*)."""

from __future__ import annotations

import inspect
import json
import math
from html import escape
from typing import Any

from cryptography.hazmat.primitives import hashes

from deploy.lab.certificates import fingerprint
from deploy.lab.errors import XapiError
from deploy.lab.faults import ConnectionDropped
from deploy.lab.http.server import CORS, Request, Response, handler, internal_error
from deploy.lab.wire import Malformed, parse_call, to_json, to_xml


async def call(request: Request, method: str, arguments: list[Any], via: str) -> Any:
    """Serve one call, meeting the faults injected into this lab. Raises XapiError."""
    machine, lab = request.machine, request.lab
    await lab.faults.before(method, machine.name)
    if not machine.answers:
        # It went down while the request waited.
        raise ConnectionDropped
    try:
        result = lab.dispatcher.call(machine, method, arguments, via)
        if inspect.isawaitable(result):
            result = await result
    finally:
        lab.faults.after(method, machine.name)
    return result


@handler("POST", "/", "/RPC2")
async def xml_rpc(request: Request) -> Response:
    try:
        method, arguments = parse_call(request.body)
        if not method:
            raise Malformed("Failure(&quot;missing method name&quot;)")
    except Malformed as malformed:
        return internal_error(malformed.detail)
    extra: tuple[str, ...] = CORS
    try:
        result = await call(request, method, arguments, "xmlrpc")
    except XapiError as error:
        extra = (*CORS, *_thumbprint(request, error))
        status, member = "Failure", "ErrorDescription"
        value = to_xml(error.description)
    else:
        status, member, value = "Success", "Value", to_xml(result)
    body = (
        '<?xml version="1.0"?><methodResponse><params><param><value><struct>'
        f"<member><name>Status</name><value>{status}</value></member>"
        f"<member><name>{member}</name>{value}</member>"
        "</struct></value></param></params></methodResponse>"
    )
    return Response("200 OK", body.encode(), "text/xml", extra, close=False)


@handler("OPTIONS", "/", "/jsonrpc")
async def options(request: Request) -> Response:
    return Response(
        "200 OK", content_type="", extra=(*CORS, "Access-Control-Allow-Methods: PUT"), close=False
    )


@handler("POST", "/jsonrpc")
async def json_rpc(request: Request) -> Response:
    try:
        version, method, arguments, identifier = _parse(request.body)
    except Malformed as malformed:
        return internal_error(escape(malformed.detail, quote=True).replace("&#x27;", "&apos;"))
    extra: tuple[str, ...] = CORS
    try:
        result = to_json(await call(request, method, arguments, "jsonrpc"))
    except XapiError as error:
        extra = (*CORS, *_thumbprint(request, error))
        body = _failure(version, error, identifier)
    else:
        body = (
            f'{{"jsonrpc":"2.0","result":{result},"id":{identifier}}}'
            if version == 2
            else f'{{"result":{result},"error":null,"id":{identifier}}}'
        )
    return Response("200 OK", body.encode(), "application/json", extra, close=False)


def _thumbprint(request: Request, error: XapiError) -> list[str]:
    """The coordinator's fingerprint, for a client that asks and is sent there (XAPI.md 1.3)."""
    wanted = request.headers.get("x-xenapi-request-host-certificate-thumbprint", "")
    algorithm = _THUMBPRINTS.get(wanted)
    if error.code != "HOST_IS_SLAVE" or algorithm is None:
        return []
    value = fingerprint(request.lab.coordinator.certificate, algorithm)
    return [f"x-xenapi-response-host-certificate-thumbprint: {value}"]


_THUMBPRINTS: dict[str, hashes.HashAlgorithm] = {
    "sha-256:master": hashes.SHA256(),
    "sha-1:master": hashes.SHA1(),
}


def _failure(version: int, error: XapiError, identifier: str) -> str:
    if version == 1:
        return f'{{"result":null,"error":{to_json(error.description)},"id":{identifier}}}'
    body = to_json({"code": 1, "message": error.code, "data": list(error.parameters)})
    return f'{{"jsonrpc":"2.0","error":{body},"id":{identifier}}}'


def _parse(body: bytes) -> tuple[int, str, list[Any], str]:
    """Version, method, arguments and the id as it has to be sent back. Raises Malformed."""
    try:
        text = body.decode()
        if not text.strip():
            raise Malformed('Yojson__Common.Json_error("Blank input data")')
        request = json.loads(text)
    except ValueError:
        raise Malformed(
            f'Yojson__Common.Json_error("Line 1, bytes 0-{len(body)}:\\nInvalid token '
            f"'{body.decode(errors='replace')}'\")"
        ) from None
    if not isinstance(request, dict):
        raise _bad("Invalid request body")
    version = _version(request)
    for name in ("method", "params"):
        if name not in request:
            raise _bad(f"Required field {name} is missing")
    if not isinstance(request["method"], str):
        raise _bad("Invalid field 'method' in request body")
    identifier = request.get("id")
    if isinstance(identifier, bool) or not isinstance(identifier, int | str):
        raise _bad("Invalid field 'id' in request body")
    parameters = request["params"]
    arguments = parameters if isinstance(parameters, list) else [parameters]
    return version, request["method"], [_plain(a) for a in arguments], json.dumps(identifier)


def _version(request: dict[str, Any]) -> int:
    if "jsonrpc" not in request:
        return 1
    if request["jsonrpc"] != "2.0":
        raise _bad("Invalid field 'jsonrpc' in request body")
    return 2


def _bad(text: str) -> Malformed:
    return Malformed(f'Jsonrpc.Malformed_method_request("{text}")')


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad("Invalid request body")
    return value
