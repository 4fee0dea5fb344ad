"""The disks of `benchmarks.start`: an image of one small server by our builder, and what a start needs beside it."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

from benchmarks.image_build import Layout, put_image
from deploy.guest.tests.disks import tree
from deploy.xenlab.plan import GATEWAY, LabPlan
from deploy.xenlab.tests.domains import listens, wait_until
from worker.images.builders import ErofsDisk
from worker.images.disk import root_at
from worker.images.records import Limits
from worker.images.spool import Spool

MIB = 2**20
SCRATCH = 64 * MIB
START = 10.0
SERVER = ["httpd", "-f", "-p", "80", "-h", "/www"]


def build_root(folder: Path) -> Path:
    """A root disk of busybox and a page: one layer of an OCI layout, made by the product's builder."""
    layout, target = folder / "layout", folder / "root"
    layout.mkdir()
    source = tree(folder / "tree")
    for name in ("dev", "proc", "sys"):  # which crun does not make
        (source / name).mkdir()
    with tarfile.open(folder / "layer.tar", "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.add(path, str(path.relative_to(source)), recursive=False)
    put_image(layout, [(folder / "layer.tar").read_bytes()])
    found = Layout(layout)
    with target.open("w+b") as file:
        ErofsDisk().build(found.image(), found, file, Spool(folder), Limits())
    return target


def file_system(root: Path) -> bytes:
    """The erofs in the root disk's partition, as a container's engine would have it in a file."""
    return root.read_bytes()[root_at(None) :]


def write_config(file: Path, mac: str, address: str) -> None:
    spec = {
        "version": 1,
        "hostname": "web",
        "argv": SERVER,
        "network": [{"device": 0, "mac": mac, "addresses": [f"{address}/24"], "gateway4": GATEWAY}],
    }
    file.write_bytes(json.dumps(spec).encode().ljust(MIB, b"\0"))


def clear(file: Path) -> None:
    """All zeros, in place: a server may have it open."""
    file.touch()
    os.truncate(file, 0)
    os.truncate(file, SCRATCH)


class DiskServer:
    """qemu-nbd on the lab's bridge, until `close`."""

    def __init__(self, plan: LabPlan, file: Path, name: str, port: int) -> None:
        self.name, self.port = name, port
        command = ["ip", "netns", "exec", plan.namespace, "qemu-nbd", "-t", "-e", "8", "-x", name]
        self._process = subprocess.Popen(
            [*command, "-f", "raw", "-b", GATEWAY, "-p", str(port), str(file)],
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: listens(plan, port), START)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
