"""The lab's remote control: what only a lab can do, over a small HTTP API on loopback.

    GET  /                      the pool at a glance: hosts, addresses, clock, violations
    POST /clock                 {"advance": seconds} and/or {"rate": factor}
    POST /hosts/{name}/power    {"state": "on" | "off"}          a power cut, not a shutdown
    POST /hosts/{name}/toolstack {"state": "up" | "down" | "restart"}   guests go on
    POST /hosts/{name}/network  {"reachable": bool, "isolated": bool}
    POST /hosts/{name}/clock    {"skew": seconds}
    POST /hosts/{name}/certificate {}                            it shows another one from now on
    POST /hosts/{name}/reset    {}        the pool takes all its VMs for halted, as HA does
    POST /hosts/{name}/bmc      {"fault": null | "unreachable" | "ignores" | "refuses"}
    GET  /faults, POST /faults, DELETE /faults                   rules on calls (`faults.Rule`)
    POST /events/overflow       forget deletions, so that followers miss them
    POST /sessions/forget       every session becomes invalid
    GET  /accounts, POST /accounts {"name": …, "role": …, "password": …}   the password if it is new
    POST /storage/{sr uuid}     {"free": bytes} and/or {"lock": seconds}
    POST /imports/fail          {"times": n}                     uploads fail after their 200
    POST /imports/redirect      {"times": n}      uploads are sent to another host that has the SR
    POST /vms/{vm uuid}/guest   {"do": "crash" | "exit" | "reboot" | "ignore_shutdown"}
    GET  /violations            what must never happen and did (`detector`)

Bodies and answers are JSON; a wrong one is answered 400 with {"error": what to do}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.lab.certificates import make_certificate
from deploy.lab.errors import XapiError
from deploy.lab.sessions import ROLES, Account

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

Serve = Callable[[Request], Awaitable[Response]]


class Refused(HTTPException):
    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(status, text)


def control_application(lab: Lab) -> Starlette:
    control = Control(lab)
    return Starlette(
        routes=[
            Route("/", control.overview),
            Route("/clock", control.clock, methods=["POST"]),
            Route("/hosts/{name}/power", control.power, methods=["POST"]),
            Route("/hosts/{name}/toolstack", control.toolstack, methods=["POST"]),
            Route("/hosts/{name}/network", control.network, methods=["POST"]),
            Route("/hosts/{name}/clock", control.skew, methods=["POST"]),
            Route("/hosts/{name}/certificate", control.certificate, methods=["POST"]),
            Route("/hosts/{name}/reset", control.reset, methods=["POST"]),
            Route("/hosts/{name}/bmc", control.bmc, methods=["POST"]),
            Route("/faults", control.faults, methods=["GET", "POST", "DELETE"]),
            Route("/events/overflow", control.overflow, methods=["POST"]),
            Route("/sessions/forget", control.forget_sessions, methods=["POST"]),
            Route("/accounts", control.accounts, methods=["GET", "POST"]),
            Route("/storage/{uuid}", control.storage, methods=["POST"]),
            Route("/imports/fail", control.fail_imports, methods=["POST"]),
            Route("/imports/redirect", control.redirect_imports, methods=["POST"]),
            Route("/vms/{uuid}/guest", control.guest, methods=["POST"]),
            Route("/violations", control.violations),
        ],
        exception_handlers={HTTPException: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _body(request: Request, *allowed: str) -> dict[str, Any]:
    """The JSON object sent. A content type is asked for, so that no web page can send it unasked."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise Refused("Send a JSON object with Content-Type: application/json.", 415)
    try:
        body = await request.json()
    except ValueError:
        raise Refused("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The body has to be a JSON object.")
    unknown = body.keys() - set(allowed)
    if unknown:
        raise Refused(f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(allowed)}.")
    return body


def _number(body: dict[str, Any], name: str, least: float = 0.0) -> float:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        raise Refused(f"{name} has to be a number not below {least:g}.")
    return float(value)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"{name} has to be a text that is not empty.")
    return value


def _one_of(body: dict[str, Any], name: str, *choices: Any) -> Any:
    if body.get(name) not in choices:
        raise Refused(f"{name} has to be one of {', '.join(map(repr, choices))}.")
    return body[name]


class Control:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def _machine(self, request: Request) -> Machine:
        name = request.path_params["name"]
        for machine in self.lab.machines.values():
            if machine.name == name:
                return machine
        names = ", ".join(machine.name for machine in self.lab.machines.values())
        raise Refused(f"There is no host {name!r}; there are {names}.", 404)

    async def overview(self, request: Request) -> Response:
        lab = self.lab
        return JSONResponse(
            {
                "pool": lab.pool.name_label,
                "coordinator": lab.coordinator.name,
                "clock": {"now": lab.clock.now(), "rate": lab.clock.rate},
                "hosts": [_describe(machine) for machine in lab.machines.values()],
                "faults": len(lab.faults.rules),
                "violations": len(lab.detector.violations),
                "durations": dataclasses.asdict(lab.config.durations),
            }
        )

    async def clock(self, request: Request) -> Response:
        body = await _body(request, "advance", "rate")
        if "rate" in body:
            self.lab.clock.set_rate(_number(body, "rate"))
        if "advance" in body:
            await self.lab.clock.advance(_number(body, "advance"))
        return JSONResponse({"now": self.lab.clock.now(), "rate": self.lab.clock.rate})

    async def power(self, request: Request) -> Response:
        machine = self._machine(request)
        state = _one_of(await _body(request, "state"), "state", "on", "off")
        if state == "on":
            machine.power_on()
        else:
            await self.lab.power.cut(machine)
        return JSONResponse(_describe(machine))

    async def toolstack(self, request: Request) -> Response:
        machine = self._machine(request)
        state = _one_of(await _body(request, "state"), "state", "up", "down", "restart")
        if state in ("down", "restart"):
            machine.crash_toolstack()
        if state in ("up", "restart"):
            machine.restart_toolstack()
        return JSONResponse(_describe(machine))

    async def network(self, request: Request) -> Response:
        machine = self._machine(request)
        body = await _body(request, "reachable", "isolated")
        if "reachable" in body:
            machine.reachable = _one_of(body, "reachable", True, False)
        if "isolated" in body:
            machine.isolated = _one_of(body, "isolated", True, False)
        if not machine.reachable:
            machine.cut_connections()
        return JSONResponse(_describe(machine))

    async def skew(self, request: Request) -> Response:
        machine = self._machine(request)
        machine.clock_skew = _number(await _body(request, "skew"), "skew", least=-1e9)
        return JSONResponse(_describe(machine))

    async def certificate(self, request: Request) -> Response:
        machine = self._machine(request)
        await _body(request)
        machine.use_certificate(*make_certificate(machine.name, machine.address))
        return JSONResponse({"certificate": machine.certificate})

    async def reset(self, request: Request) -> Response:
        machine = self._machine(request)
        await _body(request)
        lost = self.lab.failover.reset(machine)
        return JSONResponse({"vms": [vm.uuid for vm in lost]})

    async def bmc(self, request: Request) -> Response:
        machine = self._machine(request)
        body = await _body(request, "fault")
        machine.bmc_fault = _one_of(body, "fault", None, "unreachable", "ignores", "refuses")
        return JSONResponse(_describe(machine))

    async def faults(self, request: Request) -> Response:
        faults = self.lab.faults
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            body = await _body(request, "method", "action", "times", "seconds", "error", "host")
            action = _one_of(body, "action", "drop_before", "drop_after", "delay", "error")
            faults.inject(
                str(body.get("method", "*")),
                action,
                times=int(_number({"times": 1} | body, "times", least=1)),
                seconds=_number({"seconds": 0} | body, "seconds"),
                error=_error(body, action),
                host=str(body.get("host", "*")),
            )
        return JSONResponse([dataclasses.asdict(rule) for rule in faults.rules])

    async def overflow(self, request: Request) -> Response:
        await _body(request)
        self.lab.faults.overflow_events()
        return JSONResponse({})

    async def forget_sessions(self, request: Request) -> Response:
        await _body(request)
        self.lab.sessions.forget_all()
        return JSONResponse({})

    async def accounts(self, request: Request) -> Response:
        accounts = self.lab.sessions.accounts
        if request.method == "POST":
            body = await _body(request, "name", "role", "password")
            name, role = _text(body, "name"), _one_of(body, "role", *ROLES)
            if name == "root":
                raise Refused("root may always do everything.")
            known = accounts.get(name)
            password = _text(body, "password") if known is None else known.password
            accounts[name] = Account(str(body.get("password", password)), role)
        return JSONResponse([{"name": n, "role": a.role} for n, a in accounts.items()])

    async def storage(self, request: Request) -> Response:
        body = await _body(request, "free", "lock")
        try:
            sr = self.lab.db.by_uuid("SR", request.path_params["uuid"])
        except XapiError:
            raise Refused("There is no storage repository with this UUID.", 404) from None
        if "free" in body:
            self.lab.faults.leave_free(sr, int(_number(body, "free")))
        if "lock" in body:
            self.lab.faults.hold_lock(sr, _number(body, "lock"))
        return JSONResponse({"physical_size": sr.physical_size})

    async def fail_imports(self, request: Request) -> Response:
        body = await _body(request, "times")
        self.lab.faults.failing_imports = int(_number({"times": 1} | body, "times"))
        return JSONResponse({"times": self.lab.faults.failing_imports})

    async def redirect_imports(self, request: Request) -> Response:
        body = await _body(request, "times")
        self.lab.faults.redirected_imports = int(_number({"times": 1} | body, "times"))
        return JSONResponse({"times": self.lab.faults.redirected_imports})

    async def guest(self, request: Request) -> Response:
        body = await _body(request, "do")
        action = _one_of(body, "do", "crash", "exit", "reboot", "ignore_shutdown")
        uuid = request.path_params["uuid"]
        for machine in self.lab.machines.values():
            if uuid in machine.domains:
                self.lab.faults.tell_guest(machine, uuid, action)
                return JSONResponse({})
        raise Refused("No domain of this VM runs on any host.", 404)

    async def violations(self, request: Request) -> Response:
        return JSONResponse(
            [dataclasses.asdict(violation) for violation in self.lab.detector.violations]
        )


def _error(body: dict[str, Any], action: str) -> tuple[str, ...]:
    error = body.get("error", [])
    if not isinstance(error, list) or not all(isinstance(part, str) for part in error):
        raise Refused("error has to be a list of strings: the code, then its parameters.")
    if action == "error" and not error:
        raise Refused("The action error needs error: the code and its parameters.")
    return tuple(error)


def _describe(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "uuid": machine.host.uuid,
        "address": machine.address,
        "port": machine.port,
        "bmc": f"https://{machine.address}:{machine.bmc_port}",
        "powered": machine.powered,
        "toolstack": machine.toolstack,
        "emergency": machine.emergency,
        "reachable": machine.reachable,
        "isolated": machine.isolated,
        "clock_skew": machine.clock_skew,
        "bmc_fault": machine.bmc_fault,
        "domains": len(machine.domains),
    }
