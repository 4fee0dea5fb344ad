"""Making disks for tests, through the API, and moving them over HTTP."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from deploy.lab.database import Row
from deploy.lab.samples import MIB
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.vms import Vms, vms_of

NULL = "OpaqueRef:NULL"
TIMEOUT = 30.0


class Disks(Vms):
    """A client of a running lab, with short ways to what tests of storage need."""

    def create(self, sr: str, size: int = 16 * MIB, **fields: Any) -> str:
        record = {
            "name_label": "disk",
            "name_description": "",
            "SR": sr,
            "virtual_size": str(size),
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {},
        }
        ref: str = self.api.VDI.create(record | fields)
        return ref

    def vbd(self, vm: str, vdi: str, device: str = "0", **fields: Any) -> str:
        record = {
            "VM": vm,
            "VDI": vdi,
            "userdevice": device,
            "bootable": True,
            "mode": "RW",
            "type": "Disk",
            "empty": False,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }
        ref: str = self.api.VBD.create(record | fields)
        return ref

    def drive(self, vm: str, device: str = "3", **fields: Any) -> str:
        """An empty CD drive."""
        return self.vbd(vm, NULL, device, mode="RO", type="CD", empty=True, **fields)

    def iso(self) -> str:
        """An image of the ISO library."""
        library = self.storage("iso")
        return str(self.api.SR.get_VDIs(library)[0])

    def storage(self, kind: str) -> str:
        records = self.api.SR.get_all_records()
        return next(str(ref) for ref, sr in records.items() if sr["type"] == kind)

    def row(self, cls: str, ref: str) -> Row:
        return self.lab.do(lambda lab: lab.db.get(cls, ref))

    def write(self, vdi: str, offset: int, data: bytes) -> None:
        """Write to the disk as a guest would."""
        self.lab.do(lambda lab: lab.storage.write(lab.db.get("VDI", vdi), offset, data))

    def read(self, vdi: str, offset: int, length: int) -> bytes:
        return self.lab.do(lambda lab: lab.storage.read(lab.db.get("VDI", vdi), offset, length))

    # --- HTTP

    def put(self, body: bytes, **query: Any) -> Answer:
        """Upload to the pool's host number `host` (0 unless it is among the parameters)."""
        return self._send("PUT", "/import_raw_vdi", body, query.pop("host", 0), query)

    def get(self, **query: Any) -> Answer:
        return self._send("GET", "/export_raw_vdi", b"", query.pop("host", 0), query)

    def upload(self, vdi: str, body: bytes, **query: str) -> dict[str, Any]:
        """Import and answer the record of the finished task, the only place that tells the end.

        A host that has failed closes the connection on what it has not read.
        """
        task = self.api.task.create("upload", "")
        with contextlib.suppress(ConnectionError):
            self.put(body, vdi=vdi, task_id=task, **query)
        record: dict[str, Any] = self.api.task.get_record(task)
        return record

    def download(self, vdi: str, **query: str) -> bytes:
        return self.get(vdi=vdi, **query).body

    def _send(
        self, method: str, path: str, body: bytes, host: int, query: dict[str, str]
    ) -> Answer:
        query = {"session_id": self.session.handle} | query
        address = urlsplit(self.lab.urls[host])
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)
        try:
            connection.request(method, f"{path}?{urlencode(query)}", body or None)
            response = connection.getresponse()
            headers = dict(response.getheaders())
            data = b"" if response.status == 302 else response.read()
            return Answer(response.status, headers, data)
        finally:
            connection.close()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


@contextmanager
def storage_lab(hosts: int = 3, **options: Any) -> Iterator[RunningLab]:
    """A lab in which storage works at forty times its speed."""
    with running_lab(hosts, tls=False, rate=40.0, guest_boot_seconds=0.0, **options) as lab:
        yield lab


@contextmanager
def disks_of(lab: RunningLab) -> Iterator[Disks]:
    with vms_of(lab):
        disks = Disks(lab)
        try:
            yield disks
        finally:
            disks.session("close")()
