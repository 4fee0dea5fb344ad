"""From a method name and wire arguments to a value or a XAPI error.

Order of checks, as recorded (method_errors, jsonrpc_edge, session_basics): method known, number
of arguments, async mode, argument types, session, pool role of the host, RBAC, then the message
itself. Messages with a meaning of their own register with `@message`; the rest are generated from
the datamodel (`generic.py`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from deploy.lab import generic
from deploy.lab.database import Database, Row
from deploy.lab.errors import XapiError
from deploy.lab.schema import SCHEMA, Message
from deploy.lab.wire import decode, to_xml

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

log = logging.getLogger(__name__)

H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True)
class Handler:
    function: Callable[..., Any]
    is_coroutine: bool
    resolves_self: bool
    """The first argument is a reference to an object of the message's own class: pass its row."""


HANDLERS: dict[str, Handler] = {}


def message(*names: str) -> Callable[[H], H]:
    """Register the meaning of one or more messages, e.g. `@message("VM.start")`.

    The function gets the `Call`, then the message's arguments, decoded by the datamodel. A first
    argument that refers to an object of the message's own class arrives as its `Row`
    (HANDLE_INVALID otherwise); other references arrive as strings. Plain functions run at once,
    coroutine functions may wait; both answer the result or raise `XapiError`.
    """

    def register(function: H) -> H:
        for name in names:
            declared = SCHEMA.messages[name]
            first = declared.parameters[0].type if declared.parameters else None
            HANDLERS[name] = Handler(
                function,
                inspect.iscoroutinefunction(function),
                first is not None and first.t == "ref" and first.name == declared.cls,
            )
        return function

    return register


@dataclass
class Call:
    """One call being served: who asked, where it arrived, and the task that stands for it."""

    lab: Lab
    machine: Machine
    message: Message
    session: Row | None = None
    task: str = ""
    """Reference of the task; a DummyRef when the call has no task in the database."""
    task_row: Row | None = None
    via: str = "xmlrpc"
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def db(self) -> Database:
        return self.lab.db

    def check_cancelled(self) -> None:
        """A point at which the operation notices that its task was cancelled."""
        if self.cancelled.is_set():
            raise XapiError("TASK_CANCELLED", self.task)


async def within(call: Call, name: str, *values: Any) -> Any:
    """Serve another message as a part of this call, under its task; values are decoded ones."""
    result = execute(replace(call, message=SCHEMA.messages[name]), list(values))
    return await result if inspect.isawaitable(result) else result


def execute(call: Call, values: list[Any]) -> Any:
    """Do what the message means: its result, or an awaitable of it."""
    handler = HANDLERS.get(call.message.full_name)
    if handler is None:
        return generic.execute(call, values)
    if handler.resolves_self:
        values = [call.db.get(call.message.cls, values[0]), *values[1:]]
    return handler.function(call, *values)


class Dispatcher:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def call(
        self, machine: Machine, method: str, arguments: list[Any], via: str = "xmlrpc"
    ) -> Any | Awaitable[Any]:
        """Serve one call: its result, or an awaitable of it when it has to wait.

        Raises XapiError at once where the daemon refuses before doing anything.
        """
        is_async = method.startswith("Async.")
        name = method.removeprefix("Async.")
        if name == "system.listMethods":
            return list(SCHEMA.messages)
        declared = SCHEMA.messages.get(name)
        if declared is None:
            raise XapiError("MESSAGE_METHOD_UNKNOWN", name)
        values = _arguments(declared, arguments, is_async)
        call = Call(self.lab, machine, declared, via=via)
        if declared.needs_session:
            call.session = self._session(machine, decode(_STRING, arguments[0]), declared)
        else:
            machine.check_serves(declared)
        if declared.removed:
            raise XapiError("MESSAGE_REMOVED")
        if is_async:
            return self._start(call, values)
        return self._run(call, values)

    def _session(self, machine: Machine, ref: str, declared: Message) -> Row:
        session = self.lab.sessions.check(ref)
        machine.check_serves(declared, session)
        self.lab.sessions.check_role(session, declared)
        if declared.pool_internal:
            raise XapiError(
                "INTERNAL_ERROR",
                f'Internal API "{declared.full_name}" call attempted with non-pool (external) '
                "session",
            )
        return session

    def _run(self, call: Call, values: list[Any]) -> Any:
        if not call.message.is_async:
            call.task = f"DummyRef:|{uuid.uuid4()}|{call.message.full_name}"
            return execute(call, values)
        self.lab.tasks.open(call)
        try:
            result = execute(call, values)
        except BaseException:
            self.lab.tasks.forget(call)
            raise
        if inspect.isawaitable(result):
            return self._finish_later(call, result)
        self.lab.tasks.forget(call)
        return result

    async def _finish_later(self, call: Call, result: Awaitable[Any]) -> Any:
        # The work belongs to the daemon: it goes on when the client goes away (FACTS 2).
        work = self.lab.spawn(result)
        try:
            return await asyncio.shield(work)
        finally:
            work.add_done_callback(lambda _: self.lab.tasks.forget(call))

    def _start(self, call: Call, values: list[Any]) -> str:
        self.lab.tasks.open(call, is_async=True)
        self.lab.spawn(self._complete(call, values))
        return call.task

    async def _complete(self, call: Call, values: list[Any]) -> None:
        try:
            result = execute(call, values)
            if inspect.isawaitable(result):
                result = await result
        except XapiError as error:
            self.lab.tasks.fail(call, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("%s failed in the lab itself", call.message.full_name)
            self.lab.tasks.fail(call, XapiError("INTERNAL_ERROR", repr(error)))
        else:
            value = "" if call.message.result is None else result
            self.lab.tasks.succeed(call, to_xml(value))


def _arguments(declared: Message, arguments: list[Any], is_async: bool) -> list[Any]:
    """The message's own arguments, decoded; counted without the session, as the daemon does."""
    given = len(arguments) - declared.needs_session
    if not declared.required <= given <= len(declared.parameters):
        raise XapiError(
            "MESSAGE_PARAMETER_COUNT_MISMATCH",
            declared.full_name,
            str(declared.required),
            str(given),
        )
    if is_async and not declared.is_async:
        raise XapiError("Fault", f"No async mode for this operation (rpc: {declared.full_name})")
    own = arguments[1:] if declared.needs_session else arguments
    return [
        decode(parameter.type, own[i]) if i < given else parameter.default
        for i, parameter in enumerate(declared.parameters)
    ]


_STRING = next(
    p.type for m in SCHEMA.messages.values() for p in m.parameters if p.type.t == "string"
)
