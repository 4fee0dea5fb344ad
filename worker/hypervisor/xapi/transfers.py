"""Filling disks and reading them back over HTTP (import_raw_vdi.ml, export_raw_vdi.ml)."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from worker.hypervisor.port import (
    HypervisorError,
    Refused,
    TaskHandle,
    Unreachable,
    UntranslatedFailure,
)
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.making import OPERATION
from worker.hypervisor.xapi.rawhttp import Exchange, open_exchange
from worker.hypervisor.xapi.records import Raw, task_ref
from worker.hypervisor.xapi.tarstream import encoded
from worker.hypervisor.xapi.tasks import TaskCalls

log = logging.getLogger(__name__)

CANCEL_WAIT: Final = timedelta(seconds=5)
STEP_SECONDS: Final = 120.0  # one write of an import, while the SR is slow


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes on their way to a disk. Whether it has them is known when its task has ended."""

    task: TaskHandle
    exchange: Exchange
    sent: Future[None]
    deadline: float


class Transfers:
    def __init__(self, calls: Calls, tasks: TaskCalls) -> None:
        self._calls = calls
        self._tasks = tasks

    def import_vdi(
        self, vdi: UUID, data: Iterable[tuple[int, bytes]], *, timeout: timedelta
    ) -> None:
        self.finish(self.begin(self._calls.record("VDI", vdi), data, timeout=timeout))

    def begin(self, raw: Raw, data: Iterable[tuple[int, bytes]], *, timeout: timedelta) -> Upload:
        """Fill the disk whose record this is; `finish` must follow.

        The pool takes its time with the bytes, so they are sent by a thread of their own. It makes
        no calls.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        vdi = str(raw["uuid"])
        task = records.task_handle(
            str(self._calls.call("task.create", f"Async.VDI.import {vdi}", "Bulkhead import"))
        )
        operation = records.marker_of(raw).get(OPERATION)
        if operation is not None:
            self._calls.call("task.add_to_other_config", task_ref(task), OPERATION, operation)
        query = {"task_id": task_ref(task), "vdi": vdi, "format": "tar"}
        exchange = self._exchange("PUT", "/import_raw_vdi", query, STEP_SECONDS)
        stream = encoded(data, int(raw["virtual_size"]))
        sender = ThreadPoolExecutor(1, "upload")
        sent = sender.submit(_stream, exchange, stream, deadline)
        sender.shutdown(wait=False)
        return Upload(task, exchange, sent, deadline)

    def finish(self, upload: Upload) -> None:
        """Wait until the disk has all. Raises what the source of the data raised, and what the pool did."""
        try:
            upload.sent.result()
        except BaseException:
            upload.exchange.close()
            self._abandoned(upload.task)
            raise
        self._verified(upload)

    def _abandoned(self, task: TaskHandle) -> None:
        """The source of the data broke: let the pool let go of the disk before that is said."""
        try:
            self._tasks.until_finished(task, CANCEL_WAIT)
            self._tasks.forget(task)
        except HypervisorError as error:
            log.warning("abandoned import not seen to end: %r", error)

    def _verified(self, upload: Upload) -> None:
        """The server said 200 before it read anything: what counts is the task.

        Its success means that every block up to the disk's size came and had the right checksum.
        """
        left = timedelta(seconds=max(1.0, upload.deadline - time.monotonic()))
        try:
            self._tasks.wait(upload.task, left)
        except Unreachable as unknown:
            if unknown.reason == "task_still_running":
                self._tasks.cancel(upload.task)
            raise
        except (HypervisorError, UntranslatedFailure) as error:
            raise Refused("import_failed", may_have_happened=True) from error

    def export_vdi(self, vdi: UUID, *, timeout: timedelta) -> Iterator[bytes]:
        raw = self._calls.record("VDI", vdi)
        seconds = timeout.total_seconds()
        query = {"vdi": str(vdi), "format": "raw"}
        exchange = self._exchange("GET", "/export_raw_vdi", query, seconds)
        exchange.allow(seconds)
        return _pieces(exchange, int(raw["virtual_size"]))

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], seconds: float
    ) -> Exchange:
        """With the master; when it has not the disk's SR plugged it sends us on to a host that has."""
        session = self._calls.session
        return open_exchange(session, session.master(), method, path, query, seconds)


def _stream(exchange: Exchange, stream: Iterable[bytes | bytearray], deadline: float) -> None:
    """Send it all and wait for the other end to close. Why that failed, the task knows better."""
    try:
        for piece in stream:
            exchange.allow(max(0.1, min(STEP_SECONDS, deadline - time.monotonic())))
            exchange.sendall(piece)
        while exchange.recv():
            continue
    except OSError as error:
        log.warning("import cut short: %r", error)
    finally:
        exchange.close()


def _pieces(exchange: Exchange, size: int) -> Iterator[bytes]:
    """A body of 200 may end early, or hold an error in its middle: only the length tells."""
    received = 0
    try:
        while piece := exchange.recv():
            received += len(piece)
            yield piece
    except OSError as error:
        raise Unreachable("connection_lost") from error
    finally:
        exchange.close()
    if received != size:
        raise Unreachable("export_incomplete")
