"""A server that answers a recording's requests with what the recording itself says.

What is replayed against it must agree in every step, and any change of an answer must be noticed.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from deploy.lab.replay.names import NAME, kind_of
from deploy.lab.replay.prepare import _CLASSES
from deploy.lab.replay.recording import Recording, Step
from deploy.lab.replay.wire import from_python, to_python

Alter = Callable[[str, Any], Any]
"""alter(index of the step, answer): the answer to give instead."""

_FIXED = {
    "<time>": "20260102T03:04:05Z",
    "<unixtime>": "1767323045",
    "<generation>": "42",
    "<generation_id>": "123:456",
    "<hex>": "c0ffee",
}
_FURTHER = {f"<PBD:{sr}-h{n}@h{n}>" for sr in ("local", "dvd") for n in (1, 2, 3)}
_SERVED = {"xmlrpc", "jsonrpc", "http", "wait", "count", "summary", "parallel", "follow"}
_FOLLOWED = "token of a follow"
_SPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def value_of(name: str) -> str:
    """A made-up value for a name, always the same."""
    if name in _FIXED:
        return _FIXED[name]
    made_up = uuid.uuid5(_SPACE, name)
    kind = kind_of(name)
    if kind.startswith("uuid:"):
        return str(made_up)
    if kind == "mac":
        octets = made_up.hex[:12]
        return ":".join(octets[i : i + 2] for i in range(0, 12, 2))
    if kind == "token":
        return f"{made_up.int % 10**19:020d},{0:020d}"
    return f"OpaqueRef:{made_up}"


def filled(value: Any) -> Any:
    """A recorded value with made-up ones in place of names."""
    if isinstance(value, str):
        return NAME.sub(lambda found: value_of(found.group()), value)
    if isinstance(value, Mapping):
        return {filled(key): filled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part) for part in value]
    return value


class Script:
    """Which step is next, and what the housekeeping calls of a replay are answered."""

    def __init__(self, recording: Recording, alter: Alter) -> None:
        self._alter = alter
        self._recording = recording
        self._canonical = recording.class_names()
        self._lock = threading.Lock()
        self._pending: list[tuple[str, Step]] = []
        self._top = list(enumerate(recording.steps))
        self._batches: list[Any] = []
        self._seen: dict[str, dict[str, Any]] = {}
        self._classes_of: dict[str, str] = {}
        self._listed: set[str] = set()
        """Classes that were listed once, before the scenario began."""
        shown = {str(step.get("result")) for _, step in recording.leaves()}
        further = {name for name in self._names() if name.startswith("<session:")} - shown
        self.sessions = ["<session>", *sorted(further)]
        """Sessions that the replay itself logs in, in order."""

    def take(self, via: str, call: str) -> tuple[str, Step]:
        """The next step of this kind. Raises LookupError when none is due."""
        with self._lock:
            while not self._pending and self._top:
                self._advance()
            for number, (index, step) in enumerate(self._pending):
                if step["via"] == via and (step.get("call") == call or via == "http"):
                    del self._pending[number]
                    return index, step
        raise LookupError(f"{via} {call} is not due; due are {self._pending[:2]}")

    def _advance(self) -> None:
        number, step = self._top.pop(0)
        via = step["via"]
        if via not in _SERVED:
            return
        if via == "parallel":
            self._pending = [(f"{number}.{i}", part) for i, part in enumerate(step["steps"])]
        elif via == "follow":
            self._batches = [batch["events"] for batch in step["batches"]]
            self._pending = [(f"{number}.{i}", part) for i, part in enumerate(step["jobs"])]
        else:
            self._pending = [(str(number), step)]

    def follow_is_due(self) -> bool:
        with self._lock:
            while self._top and not self._pending and self._top[0][1]["via"] == "sleep":
                self._top.pop(0)
            if not self._pending and self._top and self._top[0][1]["via"] == "follow":
                self._advance()
                for ref, class_name in list(self._met()):
                    self._classes_of[ref] = class_name
                    self._seen.setdefault(ref, {})
                return True
            return False

    def _met(self) -> Iterator[tuple[str, str]]:
        """Objects that must have been there before the follow: it shows them changed first."""
        met: set[str] = set()
        for event in (event for batch in self._batches for event in batch):
            if event["ref"] not in met and event["operation"] == "mod":
                yield value_of(event["ref"]), event["class"]
            met.add(event["ref"])

    def first_events(self) -> list[dict[str, Any]]:
        return [
            {"ref": ref, "class": class_name, "operation": "add", "snapshot": dict(snapshot)}
            for ref, snapshot in self._seen.items()
            if (class_name := self._classes_of.get(ref))
        ]

    def next_events(self) -> list[dict[str, Any]]:
        """The next batch; none when the follow is over."""
        with self._lock:
            if not self._batches:
                return []
            batch = self._batches.pop(0)
        return [self._event(event) for event in batch]

    def _event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        ref = value_of(event["ref"])
        answer = {"ref": ref, "class": event["class"], "operation": event["operation"]}
        if event["operation"] == "del":
            self._seen.pop(ref, None)
            return answer
        self._classes_of[ref] = event["class"]
        now = {**self._seen.get(ref, {}), **filled(event.get("first", event.get("changed", {})))}
        self._seen[ref] = now
        return {**answer, "snapshot": self._alter(f"event {event['ref']}", now)}

    def altered(self, index: str, answer: Any) -> Any:
        return self._alter(index, answer)

    # --- what a replay asks beside the steps -----------------------------------------------------

    def housekeeping(self, method: str, args: Sequence[Any]) -> Any:
        class_name, _, verb = method.partition(".")
        if verb == "get_all_records":
            if class_name in _CLASSES and class_name not in self._listed:
                self._listed.add(class_name)
                return self._records(class_name)
            return self._all(class_name)
        if verb == "get_uuid":
            for name in self._names():
                if value_of(name) == args[1]:
                    return value_of(f"<uuid:{name[1:]}")
            return str(uuid.uuid4())
        if verb == "get_by_name_label":
            return [value_of(f"<{class_name}:{args[1]}>")]
        if verb == "get_record":
            return self._all(class_name).get(args[1], {"VBDs": []})
        raise LookupError(method)

    def _names(self) -> set[str]:
        return set(NAME.findall(json.dumps(self._recording.steps))) | set(self._recording.binds)

    def _all(self, class_name: str) -> dict[str, Any]:
        """Every object of a class that the recording names, with what is recorded of it."""
        records = {
            value_of(name): {"uuid": value_of(f"<uuid:{name[1:]}")}
            for name in self._names()
            if kind_of(name) == class_name
        }
        for _, step in self._recording.leaves():
            if step.get("call") == f"{class_name}.get_record" and "result" in step:
                records[filled(step["args"][1])] = filled(step["result"])
        return records

    def _records(self, class_name: str) -> dict[str, Any]:
        inner = rf"<{class_name}:([^<>]+)>"
        found = (
            self._names()
            | _FURTHER
            | {"<SR:iso>", "<SR:nfs>", "<pool:pool>", "<host:h1>", "<host:h2>", "<host:h3>"}
        )
        fixed = {name for name in found if not re.fullmatch(r"<[^:]+:\d+>", name)}
        records: dict[str, Any] = {}
        for name in fixed:
            label = re.fullmatch(inner, name)
            if label:
                fields = self._fixed_fields(class_name, label.group(1))
                records[value_of(name)] = {"uuid": value_of(f"<uuid:{name[1:]}"), **fields}
        return records

    def _fixed_fields(self, class_name: str, label: str) -> dict[str, Any]:
        storage, _, host = label.partition("@")
        device = label.partition("-")
        kinds = {"nfs": "nfs", "iso": "iso", "local": "ext", "dvd": "udev"}
        fields: dict[str, dict[str, Any]] = {
            "pool": {"master": value_of("<host:h1>")},
            "host": {
                "name_label": label,
                "metrics": value_of(f"<host_metrics:{label}>"),
                "address": f"192.0.2.{label[1:]}",
            },
            "SR": {
                "type": kinds.get(label.partition("-")[0], "?"),
                "shared": label in ("nfs", "iso"),
                "PBDs": [value_of(f"<PBD:{label}@{h}>") for h in self._hosts_of(label)],
            },
            "PBD": {"SR": value_of(f"<SR:{storage}>"), "host": value_of(f"<host:{host}>")},
            "VDI": {"SR": value_of("<SR:iso>"), "name_label": label.removeprefix("iso/")},
            "network": {"bridge": label},
            "PIF": {
                "host": value_of(f"<host:{device[0]}>"),
                "device": device[2],
                "VLAN": "-1",
                "metrics": value_of(f"<PIF_metrics:{label}>"),
            },
            "SM": {"type": label},
            "VM": {
                "is_control_domain": label.startswith("dom0@"),
                "resident_on": value_of(f"<host:{host}>"),
                "is_a_template": not label.startswith("dom0@"),
                "is_a_snapshot": False,
                "name_label": label.removeprefix("template "),
            },
        }
        return fields.get(class_name, {})

    @staticmethod
    def _hosts_of(label: str) -> list[str]:
        return ["h1", "h2", "h3"] if "-" not in label else [label.rpartition("-")[2]]


class ScriptedServer:
    """Listens for all three hosts at one address."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that goes away in the middle is none of the server's trouble.
        with contextlib.suppress(OSError):
            self._exchange(connection)

    def _exchange(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    received += chunk
                head, _, rest = received.partition(b"\r\n\r\n")
                if b"text/xml" not in head and b"application/json" not in head:
                    answer, kept_open = self._raw()
                    connection.sendall(answer)
                    if kept_open:
                        connection.recv(1)
                    return
                size = int(re.search(rb"Content-Length: *(\d+)", head, re.I)[1])  # type: ignore[index]
                while len(rest) < size:
                    rest += connection.recv(65536)
                body, received = rest[:size], rest[size:]
                answer = self._json() if b"application/json" in head else self._xml(body)
                connection.sendall(answer)

    def _raw(self) -> tuple[bytes, bool]:
        """The answer to a raw request, and whether the connection stays open after it."""
        index, step = self._script.take("http", "")
        response = self._script.altered(index, filled(step["response"]))
        body = response["body"].encode()
        body += b"x" * (response["body_bytes"] - len(body))
        head = "\r\n".join([response["status_line"], *response["headers"], "", ""])
        return head.encode() + body, "kept open" in str(response["end"])

    def _json(self) -> bytes:
        index, step = self._script.take("jsonrpc", self._json_call())
        text = step.get("reply_text") or json.dumps(step.get("reply"))
        text = self._script.altered(index, filled(text))
        return _http(step.get("status", 200), text)

    def _json_call(self) -> str:
        steps = self._script._pending or [("", s) for _, s in self._script._top]
        return next((str(s["call"]) for _, s in steps if s["via"] == "jsonrpc"), "")

    def _xml(self, body: bytes) -> bytes:
        try:
            args, method = xmlrpc.client.loads(body.decode())
        except Exception:  # the recordings hold a call that is none
            args, method = ("",), ""
        args = tuple(from_python(list(args)))
        method = method or ""
        if method == "session.login_with_password" and args[3:] == ("look-ups",):
            return _success("OpaqueRef:11111111-1111-1111-1111-111111111111")
        if method == "session.login_with_password" and args[3:] == ("replay",):
            return _success(value_of(self._script.sessions.pop(0)))
        if args[:1] == ("OpaqueRef:11111111-1111-1111-1111-111111111111",):
            try:
                return _success(self._script.housekeeping(method, args))
            except LookupError:
                return _failure(["MESSAGE_METHOD_UNKNOWN", method])
        if method == "event.from" and args[2] == "" and self._script.follow_is_due():
            return _success({"events": self._script.first_events(), "token": _FOLLOWED})
        if method == "event.from" and args[2] == _FOLLOWED:
            return _success({"events": self._script.next_events(), "token": _FOLLOWED})
        return self._step(method)

    def _step(self, method: str) -> bytes:
        for via in ("xmlrpc", "wait", "count", "summary"):
            try:
                index, step = self._script.take(via, method)
            except LookupError:
                continue
            return self._answer(index, step)
        return _http(500, f"{method} is not due")

    def _answer(self, index: str, step: Step) -> bytes:
        if "error" in step:
            return _failure(self._script.altered(index, filled(step["error"])))
        if "transport" in step:
            return _http(int(step["transport"]["Code"]), step["transport"]["Body"])
        if step["via"] == "count":
            return _success(self._script.altered(index, ["x"] * step["count"]))
        if step["via"] == "summary":
            events = [
                {"class": c, "operation": o} for c in step["classes"] for o in step["operations"]
            ]
            counts = step["valid_ref_counts"]
            return _success(
                self._script.altered(index, {"events": events, "valid_ref_counts": counts})
            )
        result = step["result"]
        if isinstance(result, dict) and set(result) == {"count"}:
            result = ["x"] * result["count"]
        result = filled(result)
        if step["call"] == "event.from":
            _unpack_snapshots(result)
        return _success(self._script.altered(index, result))


def _unpack_snapshots(result: dict[str, Any]) -> None:
    for event in result["events"]:
        if event.get("snapshot") == "present":
            event["snapshot"] = {"uuid": "x"}
        elif event.get("snapshot") == "absent":
            del event["snapshot"]


def _success(value: Any) -> bytes:
    return _xml_answer({"Status": "Success", "Value": value})


def _failure(error: Sequence[str]) -> bytes:
    return _xml_answer({"Status": "Failure", "ErrorDescription": list(error)})


def _xml_answer(content: Mapping[str, Any]) -> bytes:
    python = to_python(content)
    return _http(200, xmlrpc.client.dumps((python,), methodresponse=True, allow_none=True))


def _http(status: int, text: str) -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def scripted(recording: Recording, alter: Alter = lambda index, answer: answer) -> Iterator[str]:
    """A server for one replay of the recording; its address."""
    server = ScriptedServer(Script(recording, alter))
    try:
        yield server.url
    finally:
        server.close()
