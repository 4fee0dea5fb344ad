"""Compares answers that came over plain HTTP: raw ones, and JSON-RPC's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploy.lab.replay import rules
from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.places import MISSING, Difference, Place
from deploy.lab.replay.recording import Step, call_in
from deploy.lab.replay.rrd import form
from deploy.lab.replay.wire import RawResponse


class Replies:
    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def raw(self, request: str, expected: Mapping[str, Any], got: RawResponse) -> list[Difference]:
        compare = self._comparison.value
        found = compare(expected["status_line"], got.status_line, Place("status_line"))
        succeeded = " 200 " in f"{expected['status_line']} "
        is_rrd = succeeded and rules.is_rrd(request)
        headers = [_header(h, with_length=not is_rrd) for h in expected["headers"]]
        came = [_header(h, with_length=not is_rrd) for h in got.headers]
        found += compare(headers, came, Place("headers"))
        if is_rrd:
            return found + _rrd_form(str(expected["body"]), got.body.decode("utf-8", "replace"))
        if not (succeeded and rules.is_disk_data(request)):
            found += self._body(expected, got)
        end = expected.get("end")
        if isinstance(end, str) and not end.startswith(got.end):
            found.append(Difference("end", end, got.end))
        return found

    def _body(self, expected: Mapping[str, Any], got: RawResponse) -> list[Difference]:
        recorded, body = str(expected["body"]), got.body.decode("utf-8", "replace")
        cut = int(expected["body_bytes"]) > len(recorded.encode())
        found = []
        mark = self._comparison.names.mark()
        if not self._comparison.names.match(recorded, body, prefix=cut):
            self._comparison.names.undo(mark)
            found.append(Difference("body", recorded, body[:600]))
        size = Place("body_bytes")
        return found + self._comparison.value(expected["body_bytes"], len(got.body), size)

    def json(self, step: Step, args: Sequence[Any], expected: Any, got: Any) -> list[Difference]:
        if not isinstance(expected, dict) or not isinstance(got, dict):
            return self._comparison.value(expected, got, Place("reply"))
        found: list[Difference] = []
        for key in [*expected, *(k for k in got if k not in expected)]:
            wanted, came = expected.get(key, MISSING), got.get(key, MISSING)
            path = f"reply.{key}"
            if key == "error" and _json_error(wanted) and _json_error(came):
                found += self._comparison.error(_json_error(wanted), _json_error(came), path)
                if isinstance(wanted, dict) and isinstance(came, dict):
                    code = Place(f"{path}.code")
                    found += self._comparison.value(wanted.get("code"), came.get("code"), code)
            elif key == "result" and MISSING not in (wanted, came):
                place = replace(place_of(step, args), path=path)
                found += self._comparison.result(place.call, wanted, came, place)
            else:
                found += self._comparison.value(wanted, came, Place(path))
        return found


def place_of(step: Step, args: Sequence[Any]) -> Place:
    call = str(step.get("call", ""))
    if "body" in step:
        call = call_in(str(step["body"]))
    subject = args[1] if len(args) > 1 and isinstance(args[1], str) else ""
    initial = call == "event.from" and len(args) > 2 and args[2] == ""
    shortened = "first" in str(step.get("shortened", ""))
    partial = bool(step.get("partial")) or shortened
    return Place(call=call, subject=subject, partial=partial, initial=initial)


def _json_error(value: Any) -> list[str]:
    """An error in either version's form as code and parameters; [] when it is none."""
    if isinstance(value, list):
        return [str(part) for part in value]
    if isinstance(value, dict) and "message" in value:
        data = value.get("data")
        return [str(value["message"]), *(str(part) for part in data or ())]
    return []


def _header(header: str, *, with_length: bool) -> str:
    """A header as it is compared."""
    name = header.partition(":")[0]
    if name.lower() == "content-length" and not with_length:
        return name
    return rules.LOCATION.sub(r"\1https://\2/", header)


def _rrd_form(expected: str, got: str) -> list[Difference]:
    """Compare what kind of document it is and how it is put together (rule `rrd`)."""
    wanted, came = form(expected), form(got)
    return [] if wanted == came else [Difference("body", sorted(wanted), sorted(came))]
