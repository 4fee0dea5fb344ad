"""Looking after: consoles, metrics, messages. What lives on a host is asked of that host."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from worker.hypervisor.port import (
    ByteStream,
    ConsoleRecord,
    Gone,
    Sample,
    Unreachable,
)
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.errors import translate_transport
from worker.hypervisor.xapi.rawhttp import open_exchange
from worker.hypervisor.xapi.transport import TransportError, failed

METRICS_SECONDS: Final = 30.0
MAX_METRICS_BYTES: Final = 64 * 1024 * 1024


class Looking:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    # consoles -----------------------------------------------------------------------------------

    def consoles(self, vm: UUID) -> tuple[ConsoleRecord, ...]:
        found = self._calls.where("console", VM=self._calls.ref("VM", vm)).values()
        return tuple(
            ConsoleRecord(UUID(raw["uuid"]), vm, raw["protocol"], raw["location"]) for raw in found
        )

    def open_console(self, console: ConsoleRecord, timeout: timedelta) -> ByteStream:
        """HTTP CONNECT to the host that the console's location names (console.ml)."""
        parts = urlsplit(console.location)
        host = self._calls.session.candidates.find(parts.netloc)
        if host is None:
            raise Unreachable("host_unknown")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        exchange = open_exchange(
            self._calls.session, host, "CONNECT", parts.path, query, timeout.total_seconds()
        )
        exchange.unlimited()
        return exchange

    # metrics ------------------------------------------------------------------------------------

    def metrics(self, host: UUID, *, since: datetime, interval: timedelta) -> tuple[Sample, ...]:
        candidate = self._calls.session.candidates.of_host(host)
        if candidate is None:
            raise Gone("gone")
        query = {
            "start": str(int(since.timestamp())),
            "cf": "AVERAGE",
            "interval": str(int(interval.total_seconds())),
            "host": "true",
            "json": "true",
        }
        exchange = open_exchange(
            self._calls.session, candidate, "GET", "/rrd_updates", query, METRICS_SECONDS
        )
        try:
            return tuple(samples(json.loads(exchange.read_all(MAX_METRICS_BYTES))))
        except (OSError, TransportError) as error:
            raise translate_transport(failed(error, sent=False)) from error
        except ValueError as error:
            raise Unreachable("protocol") from error
        finally:
            exchange.close()

    # messages -----------------------------------------------------------------------------------

    def destroy_messages(self, messages: Iterable[UUID]) -> None:
        for message in messages:
            try:
                self._calls.on("message", message, self._destroy_message)
            except Gone:
                continue

    def _destroy_message(self, ref: str) -> None:
        # One by one: message.destroy_many stops at the first that is gone, and is newer.
        self._calls.call("message.destroy", ref)


def samples(updates: Mapping[str, Any]) -> Iterator[Sample]:
    """Of an /rrd_updates answer. Values are numbers or text by release, and may be NaN: no sample."""
    legend = [str(entry).split(":", 3) for entry in updates["meta"]["legend"]]
    for row in updates["data"]:
        at = datetime.fromtimestamp(int(float(row["t"])), UTC)
        for entry, text in zip(legend, row["values"], strict=True):
            value = float(text)
            if len(entry) == 4 and entry[1] in ("vm", "host") and math.isfinite(value):
                kind = cast(Literal["vm", "host"], entry[1])
                yield Sample(kind, UUID(entry[2]), entry[3], at, value)
