"""A baseboard management controller per host: the Redfish subset that fencing needs.

Served at each host's own address on one further port, whatever the host's power state. Resources
and actions follow DMTF Redfish (ComputerSystem v1): `/redfish/v1/`, `/redfish/v1/Systems`,
`/redfish/v1/Systems/1`, and `…/Actions/ComputerSystem.Reset` with On, ForceOff, ForceRestart and
GracefulShutdown. Accounts: HTTP Basic, `Config.bmc_username` and `Config.bmc_password`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

SYSTEM = "/redfish/v1/Systems/1"
RESET_TYPES = ("On", "ForceOff", "ForceRestart", "GracefulShutdown")


def bmc_application(lab: Lab) -> Starlette:
    """One application for all hosts; the address a request came in on says whose BMC is meant."""

    def endpoint(answer: Any) -> Any:
        async def serve(request: Request) -> Response:
            machine = _machine(lab, request)
            if machine.bmc_fault == "unreachable":
                return await _silence(request)
            if not _authorised(lab, request):
                return _error(401, "Base.1.0.NoValidSession", "Credentials are missing or wrong.")
            response: Response = await answer(machine, request)
            return response

        return serve

    return Starlette(
        routes=[
            Route("/redfish/v1/", endpoint(_root)),
            Route("/redfish/v1/Systems", endpoint(_systems)),
            Route(SYSTEM, endpoint(_system)),
            Route(f"{SYSTEM}/Actions/ComputerSystem.Reset", endpoint(_reset), methods=["POST"]),
        ]
    )


async def _silence(request: Request) -> Response:
    """Say nothing until the client gives up: an unplugged controller."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=504)


def _machine(lab: Lab, request: Request) -> Machine:
    address, port = request.scope["server"]
    for machine in lab.machines.values():
        if machine.address == address and machine.bmc_port == port:
            return machine
    raise LookupError(f"no host listens at {address}:{port}")


def _authorised(lab: Lab, request: Request) -> bool:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    config = lab.config
    return secrets.compare_digest(user, config.bmc_username) and secrets.compare_digest(
        password, config.bmc_password
    )


def _error(status: int, message_id: str, text: str) -> Response:
    body = {"error": {"code": message_id, "message": text}}
    headers = {"WWW-Authenticate": 'Basic realm="Redfish"'} if status == 401 else None
    return JSONResponse(body, status, headers)


async def _root(machine: Machine, request: Request) -> Response:
    return JSONResponse(
        {
            "@odata.id": "/redfish/v1/",
            "@odata.type": "#ServiceRoot.v1_9_0.ServiceRoot",
            "RedfishVersion": "1.9.0",
            "Name": f"BMC of {machine.name}",
            "UUID": machine.host.uuid,
            "Systems": {"@odata.id": "/redfish/v1/Systems"},
        }
    )


async def _systems(machine: Machine, request: Request) -> Response:
    return JSONResponse(
        {
            "@odata.id": "/redfish/v1/Systems",
            "@odata.type": "#ComputerSystemCollection.ComputerSystemCollection",
            "Members": [{"@odata.id": SYSTEM}],
            "Members@odata.count": 1,
        }
    )


async def _system(machine: Machine, request: Request) -> Response:
    return JSONResponse(
        {
            "@odata.id": SYSTEM,
            "@odata.type": "#ComputerSystem.v1_14_0.ComputerSystem",
            "Id": "1",
            "Name": machine.name,
            "UUID": machine.host.uuid,
            "PowerState": "On" if machine.powered else "Off",
            "Status": {"State": "Enabled", "Health": "OK"},
            "Actions": {
                "#ComputerSystem.Reset": {
                    "target": f"{SYSTEM}/Actions/ComputerSystem.Reset",
                    "ResetType@Redfish.AllowableValues": list(RESET_TYPES),
                }
            },
        }
    )


async def _reset(machine: Machine, request: Request) -> Response:
    try:
        wanted = (await request.json())["ResetType"]
    except (ValueError, KeyError, TypeError):
        return _error(400, "Base.1.0.ActionParameterMissing", "ResetType is missing.")
    if wanted not in RESET_TYPES:
        allowed = ", ".join(RESET_TYPES)
        return _error(
            400,
            "Base.1.0.ActionParameterValueNotInList",
            f"ResetType {wanted!r} is not one of {allowed}.",
        )
    if machine.bmc_fault == "ignores":
        return Response(status_code=204)  # says yes and does nothing: why the state is read back
    if machine.bmc_fault == "refuses":
        return _error(503, "Base.1.0.ServiceTemporarilyUnavailable", "The service is unavailable.")
    machine.lab.spawn(_carry_out(machine, wanted))
    return Response(status_code=204)


async def _carry_out(machine: Machine, wanted: str) -> None:
    await machine.lab.clock.sleep(machine.lab.config.bmc_delay)
    if wanted != "On":
        await machine.lab.power.cut(machine)
    if wanted in ("On", "ForceRestart"):
        machine.power_on()
