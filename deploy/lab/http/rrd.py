"""Round-robin databases: /rrd_updates, /vm_rrd, /host_rrd, on the host that measures.

Facts: XAPI.md 5.4; xen-api rrd_updates.ml, rrdd_http_handler.ml, rrdd_proxy.ml; recorded:
http_rrd.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.http.access import Refused, authenticate
from deploy.lab.http.bare import NO_CACHE, send_bare
from deploy.lab.http.server import CORS, Request, Response, handler, internal_error
from deploy.lab.measurements import Source, host_sources, vm_sources

STEP = 5
CONSOLIDATIONS = ("AVERAGE", "MIN", "MAX", "LAST")
INTEGER_FAILURE = "Failure(&quot;Int64.of_string&quot;)"


@dataclass(frozen=True)
class Archive:
    """So many rows, each of so many steps of 5 s."""

    steps: int
    rows: int

    @property
    def seconds(self) -> int:
        return self.steps * STEP


ARCHIVES = (Archive(1, 120), Archive(12, 120), Archive(720, 168), Archive(17280, 366))
"""5 s for 10 minutes, a minute for 2 hours, an hour for a week, a day for a year."""


@dataclass(frozen=True)
class Series:
    legend: str
    source: Source
    since: float
    """When the object began to be measured; before that there are no values."""

    def at(self, t: float) -> float:
        return self.source.at(t) if t >= self.since else math.nan


@handler("PUT", "/rrd_updates")
async def put_updates(request: Request) -> Response | None:
    await send_bare(request, "400 Bad Request")
    return None


@handler("GET", "/rrd_updates")
async def updates(request: Request) -> Response | None:
    """What was measured since `start`: see XAPI.md 5.4 for the parameters."""
    try:
        with await authenticate(request, "rrd_updates"):
            return await _updates(request)
    except Refused as refused:
        return refused.response


async def _updates(request: Request) -> Response | None:
    query = request.query
    if "start" not in query:
        await send_bare(request, "400 Bad Request")
        return None
    try:
        start, interval = int(query["start"]), int(query.get("interval", STEP))
    except ValueError:
        return internal_error(INTEGER_FAILURE)
    cf = query.get("cf", "AVERAGE").upper()
    series = _series(request, cf if cf in CONSOLIDATIONS else "AVERAGE")
    if not series:
        return internal_error("Rrd.No_RRA_Available")
    table = _Table.make(_last_update(request), start, interval, series)
    # The mere presence of `json` counts (recorded: json=false).
    as_json = "json" in query or "application/json" in request.headers.get("accept", "")
    body = (table.json() if as_json else table.xml()).encode()
    return _RrdResponse(
        "200 OK", body, "application/json" if as_json else "text/xml", CORS, close=False
    )


class _RrdResponse(Response):
    """The metrics daemon capitalises its headers, xapi does not."""

    def render(self, version: str, *, keep_alive: bool) -> bytes:
        head = [
            f"{version} {self.status}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            f"Content-Length: {len(self.body)}",
            NO_CACHE,
            f"content-type: {self.content_type}",
            *self.extra,
        ]
        return "\r\n".join([*head, "", ""]).encode() + self.body


def _last_update(request: Request) -> int:
    now = int(request.lab.clock.now() + request.machine.clock_skew)
    return now - now % STEP


def _series(request: Request, cf: str) -> list[Series]:
    machine, query = request.machine, request.query
    found: list[Series] = []
    if query.get("host") == "true":
        host = machine.host
        found += [
            Series(f"{cf}:host:{host.uuid}:{source.name}", source, -math.inf)
            for source in host_sources(machine)
        ]
    for vm in _vms_here(request):
        if query.get("vm_uuid") in (None, vm.uuid):
            since = _measured_since(request, vm)
            found += [
                Series(f"{cf}:vm:{vm.uuid}:{source.name}", source, since)
                for source in vm_sources(machine, vm)
            ]
    return found


def _vms_here(request: Request) -> list[Row]:
    vms = request.lab.db.rows("VM", request.machine.host.resident_VMs)
    return [vm for vm in vms if vm.power_state in ("Running", "Paused")]


def _measured_since(request: Request, vm: Row) -> float:
    metrics = request.lab.db.find("VM_metrics", vm.metrics)
    if vm.is_control_domain or metrics is None:
        return -math.inf
    return float(metrics.start_time.timestamp())


@dataclass(frozen=True)
class _Table:
    """The answer of /rrd_updates: latest row first."""

    start: int
    end: int
    step: int
    series: list[Series]
    times: range

    @classmethod
    def make(cls, last: int, start: int, interval: int, series: list[Series]) -> _Table:
        if start < 0:
            start += last
        archive = _archive(last, start, interval)
        end = last - last % archive.seconds
        first = start - start % archive.seconds + archive.seconds
        oldest = end - (archive.rows - 1) * archive.seconds
        first = max(first, oldest)
        return cls(first, end, archive.seconds, series, range(end, first - 1, -archive.seconds))

    def _meta(self) -> list[tuple[str, int]]:
        return [
            ("start", self.start),
            ("step", self.step),
            ("end", self.end),
            ("rows", len(self.times)),
            ("columns", len(self.series)),
        ]

    def _rows(self) -> list[tuple[int, list[str]]]:
        return [(t, [write(series.at(t)) for series in self.series]) for t in self.times]

    def json(self) -> str:
        meta: dict[str, Any] = {name: str(value) for name, value in self._meta()}
        meta["legend"] = [series.legend for series in self.series]
        data = [{"t": str(t), "values": values} for t, values in self._rows()]
        return json.dumps({"meta": meta, "data": data}, separators=(",", ":"))

    def xml(self) -> str:
        meta = "".join(f"<{name}>{value}</{name}>" for name, value in self._meta())
        legend = "".join(f"<entry>{series.legend}</entry>" for series in self.series)
        rows = "".join(
            f"<row><t>{t}</t>{''.join(f'<v>{value}</v>' for value in values)}</row>"
            for t, values in self._rows()
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<xport><meta>{meta}<legend>{legend}</legend></meta>"
            f"{f'<data>{rows}</data>' if rows else '<data/>'}</xport>"
        )


def _archive(last: int, start: int, interval: int) -> Archive:
    """The finest archive that is no finer than asked and reaches back to `start`; else the longest."""
    for archive in ARCHIVES:
        reaches_back_to = last - archive.rows * archive.seconds
        if archive.steps >= interval // STEP and start > reaches_back_to:
            return archive
    return ARCHIVES[-1]


def write(value: float) -> str:
    """A number as the daemon writes it: whole ones bare, NaN and Infinity by name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(int(value)) if value == int(value) else f"{value:.15g}"


# --- whole databases


@handler("GET", "/host_rrd")
async def host_rrd(request: Request) -> Response | None:
    try:
        with await authenticate(request, "host_rrd"):
            await _send_whole(request, host_sources(request.machine), -math.inf)
    except Refused as refused:
        return refused.response
    return None


@handler("GET", "/vm_rrd")
async def vm_rrd(request: Request) -> Response | None:
    """Of a VM on this host; one on another host is redirected there, one that is off has none."""
    try:
        with await authenticate(request, "vm_rrd"):
            return await _vm_rrd(request)
    except Refused as refused:
        return refused.response


async def _vm_rrd(request: Request) -> Response | None:
    lab, uuid = request.lab, request.query.get("uuid", "")
    try:
        vm = lab.db.by_uuid("VM", uuid)
    except XapiError:
        quoted = f"&quot;VM&quot;, &quot;&quot;, &quot;{uuid}&quot;"
        return internal_error(f"Db_exn.Read_missing_uuid({quoted})")
    owner = lab.db.find("host", vm.resident_on)
    if owner is not None and owner.ref != request.machine.host.ref:
        await send_bare(request, "302 Found", f"Location: {_elsewhere(request, owner)}")
        return None
    sources = vm_sources(request.machine, vm) if owner is not None else []
    if sources:
        await _send_whole(request, sources, _measured_since(request, vm))
    else:
        await send_bare(request, "404 Not Found")
    return None


def _elsewhere(request: Request, owner: Row) -> str:
    machine = request.lab.machine(owner.ref)
    secure = request.writer.get_extra_info("ssl_object") is not None
    scheme = "https" if secure else "http"
    return f"{scheme}://{machine.address}:{machine.port}{request.path}?{urlencode(request.query)}"


async def _send_whole(request: Request, sources: list[Source], since: float) -> None:
    as_json = "json" in request.query
    series = [Series(source.name, source, since) for source in sources]
    whole = _whole(_last_update(request), series)
    body = json.dumps(whole, separators=(",", ":")) if as_json else _whole_xml(whole)
    kind = "application/json" if as_json else "text/xml"
    head = (
        f"HTTP/1.0 200 OK\r\nConnection: close\r\n{NO_CACHE}\r\ncontent-type: {kind}\r\n{CORS[0]}"
    )
    request.writer.write(f"{head}\r\n\r\n{body}".encode())
    await request.writer.drain()


def _whole(last: int, series: list[Series]) -> dict[str, Any]:
    return {
        "version": "0003",
        "step": str(STEP),
        "lastupdate": str(last),
        "ds": [_data_source(each, last) for each in series],
        "rra": [_round_robin(archive, series, last) for archive in ARCHIVES],
    }


def _data_source(series: Series, last: int) -> dict[str, str]:
    source = series.source
    return {
        "name": source.name,
        "type": source.kind,
        "minimal_heartbeat": "300",
        "min": f"{source.minimum:.1f}",
        "max": "Infinity" if math.isinf(source.maximum) else f"{source.maximum:.1f}",
        "last_ds": write(series.at(last)),
        "value": write(series.at(last)),
        "unknown_sec": "0.0",
        "last_updated": str(last),
    }


def _round_robin(archive: Archive, series: list[Series], last: int) -> dict[str, Any]:
    end = last - last % archive.seconds
    times = range(end - (archive.rows - 1) * archive.seconds, end + 1, archive.seconds)
    return {
        "cf": "AVERAGE",
        "pdp_per_row": str(archive.steps),
        "xff": "0.5",
        "cdp_prep": [
            {
                "primary_value": "0.0",
                "secondary_value": "0.0",
                "value": "0.0",
                "unknown_datapoints": "0",
            }
            for _ in series
        ],
        "database": [[write(each.at(t)) for each in series] for t in times],
    }


def _whole_xml(whole: dict[str, Any]) -> str:
    sources = "".join(
        "<ds>" + "".join(f"<{name}>{value}</{name}>" for name, value in source.items()) + "</ds>"
        for source in whole["ds"]
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<rrd><version>{whole['version']}</version><step>{whole['step']}</step>"
        f"<lastupdate>{whole['lastupdate']}</lastupdate>{sources}"
        f"{''.join(map(_rra_xml, whole['rra']))}</rrd>"
    )


def _rra_xml(rra: dict[str, Any]) -> str:
    prepared = "".join(
        "<ds>" + "".join(f"<{name}>{value}</{name}>" for name, value in each.items()) + "</ds>"
        for each in rra["cdp_prep"]
    )
    rows = "".join(
        f"<row>{''.join(f'<v>{value}</v>' for value in row)}</row>" for row in rra["database"]
    )
    return (
        f"<rra><cf>{rra['cf']}</cf><pdp_per_row>{rra['pdp_per_row']}</pdp_per_row>"
        f"<params><xff>{rra['xff']}</xff></params><cdp_prep>{prepared}</cdp_prep>"
        f"<database>{rows}</database></rra>"
    )
