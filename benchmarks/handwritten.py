"""The baseline: what a competent person writes with the official XenAPI package to make and start VMs.

It has no memory: nothing is found again after a crash, nothing is undone, nobody is told. Each thread has
a session and a connection of its own.
"""

from __future__ import annotations

import http.client
import queue
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import XenAPI

from deploy.lab.samples import MIB, vbd_record, vdi_record, vm_record

CONFIG_BYTES = 2 * MIB


@dataclass(frozen=True)
class Job:
    """What each of the VMs is to be."""

    url: str
    password: str
    golden: str
    memory: int
    scratch: int
    config: bytes


@dataclass
class Made:
    """Name of the VM → when its making began; and the moment the last one ran."""

    began: dict[str, float] = field(default_factory=dict)
    ended: float = 0.0


def make_all(job: Job, names: Sequence[str], threads: int) -> Made:
    """Make and start a VM of each name, so many at a time; all run and have booted when it returns."""
    made, waiting = Made(), queue.SimpleQueue[str]()
    for name in names:
        waiting.put(name)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            maker = Maker(job)
            while True:
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    break
                made.began[name] = time.monotonic()
                maker.make(name)
            maker.close()
        except BaseException as error:
            failures.append(error)

    crew = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(120)
    if failures:
        raise failures[0]
    made.ended = time.monotonic()
    return made


class Maker:
    """One thread's session."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._session = XenAPI.Session(job.url, ignore_ssl=True)
        self._session.login_with_password("root", job.password, "2.21", "handwritten")
        self._api = self._session.xenapi
        self._golden = self._api.VDI.get_by_uuid(job.golden)
        self._sr = self._api.VDI.get_SR(self._golden)
        self._hosts = self._api.host.get_all()

    def make(self, name: str) -> None:
        api, job = self._api, self._job
        root = api.VDI.clone(self._golden)
        api.VDI.set_name_label(root, f"{name}-root")
        scratch = api.VDI.create(vdi_record(f"{name}-scratch", self._sr, size=job.scratch))
        config = api.VDI.create(vdi_record(f"{name}-config", self._sr, size=CONFIG_BYTES))
        self._fill(config)
        vm = api.VM.create(vm_record(name, memory=job.memory))
        for device, vdi in enumerate((root, config, scratch)):
            api.VBD.create(vbd_record(vm, vdi, device=device, bootable=device == 0))
        host = self._hosts[hash(name) % len(self._hosts)]
        api.VM.start_on(vm, host, False, False)
        self._await_boot(vm)

    def _fill(self, vdi: str) -> None:
        """The upload is answered before it is read: its task tells how it ended."""
        task = self._api.task.create("import", "")
        query = {"session_id": self._session.handle, "vdi": vdi, "task_id": task, "format": "raw"}
        address = urlsplit(self._job.url)
        connection = http.client.HTTPSConnection(
            str(address.hostname),
            address.port,
            timeout=60,
            context=ssl._create_unverified_context(),
        )
        body = self._job.config.ljust(CONFIG_BYTES, b"\0")
        connection.request("PUT", f"/import_raw_vdi?{urlencode(query)}", body)
        connection.getresponse().read()
        connection.close()
        while (status := self._api.task.get_status(task)) == "pending":
            time.sleep(0.01)
        if status != "success":
            raise RuntimeError(f"the import ended as {status}")
        self._api.task.destroy(task)

    def _await_boot(self, vm: str) -> None:
        """VM.start_on returns when the VM runs; its guest tells of its drivers a little later."""
        metrics = self._api.VM.get_guest_metrics(vm)
        token = ""
        while True:
            wanted = [f"VM_guest_metrics/{metrics}"]
            answer: Any = self._session.xenapi_request("event.from", (wanted, token, 30.0))
            token = answer["token"]
            if any(event["snapshot"]["PV_drivers_detected"] for event in answer["events"]):
                return

    def close(self) -> None:
        self._session.logout()
