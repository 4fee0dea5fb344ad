"""Makes, restores and ends domains without xl, whose 600 messages to xenstored take 2 to 4 s a domain here.

What is written is what libxl 4.17 writes (libxl_create.c, libxl_dom.c), less what nobody reads: xl moves, saves and lists
such domains as its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import libxl, nbd, savefile, transaction, xenguest
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.hypervisor import Hypervisor
from deploy.xenlab.agent.libxl import BACKENDS, SERVED, Device
from deploy.xenlab.agent.spec import Devices, Domain
from deploy.xenlab.agent.transaction import Node
from deploy.xenlab.agent.xenguest import Rings, Shape
from deploy.xenlab.agent.xenstore import Xenstore

GONE = 20.0
PACE = 0.01
CONSOLE_BYTES = 1 << 20
# Places that a guest may write to.
GUESTS_OWN = (
    *("attr", "data", "drivers", "feature", "error", "device/suspend/event-channel"),
    *("control/shutdown", "control/sysrq"),
    *(f"control/feature-{ability}" for ability in ("poweroff", "reboot", "suspend")),
)


class Making:
    """Each of these leaves something behind when it fails: `end` takes it away."""

    def __init__(self, store: Xenstore, hypervisor: Hypervisor) -> None:
        self._store = store
        self._hypervisor = hypervisor

    async def create(self, wanted: Domain) -> int:
        """A paused PV domain with its devices; its number. Raises AgentError."""
        shape = Shape(wanted.devices.uuid, wanted.kind, wanted.vcpus, wanted.memory_mib << 10)
        given = _given(wanted.devices)
        # Not in a thread: what is called off must find it.
        domid = xenguest.create(shape)
        rings = await asyncio.to_thread(
            xenguest.build, domid, shape, wanted.kernel, wanted.ramdisk, wanted.arguments
        )
        known = _configuration(wanted, shape)
        await self._introduce(domid, shape, rings, given, known, dict(wanted.xenstore))
        return domid

    async def restore(self, devices: Devices, file: Path) -> int:
        """A paused domain as it was saved; its number. Raises AgentError."""
        saved = savefile.head_of(file)
        shape, given = _shape_of(devices.uuid, saved.configuration), _given(devices)
        domid = xenguest.create(shape)
        rings = await asyncio.to_thread(xenguest.restore, domid, shape, file, saved.offset)
        known = saved.configuration
        known["c_info"] |= {"name": devices.uuid, "uuid": devices.uuid}
        await self._introduce(domid, shape, rings, given, known, {})
        return domid

    async def end(self, domid: int, identity: str) -> None:
        """Ends a domain, however far it came; returns when dom0 serves nothing of it any more.

        Raises AgentError, `devices_left` when a backend does not let go.
        """
        self._hypervisor.pause(domid)
        for kind in ("vbd", "vif", "console"):
            await self._store.remove(f"{BACKENDS}/{kind}/{domid}")
        for path in (f"/local/domain/{domid}", f"/vm/{identity}", f"/libxl/{domid}"):
            await self._store.remove(path)
        libxl.forget(domid, identity)
        await asyncio.to_thread(xenguest.destroy, domid)
        try:
            async with asyncio.timeout(GONE):
                while any(SERVED.glob(f"*-{domid}-*")):
                    await asyncio.sleep(PACE)
        except TimeoutError as late:
            raise AgentError("devices_left", f"devices of domain {domid} are still there") from late

    async def _introduce(
        self,
        domid: int,
        shape: Shape,
        rings: Rings,
        given: list[Device],
        known: dict[str, Any],
        values: dict[str, str],
    ) -> None:
        """Tells xenstored, consoles and backends of a domain."""
        known["disks"] = [one.entry for one in given if one.kind == "vbd"]
        known["nics"] = [one.entry for one in given if one.kind == "vif"]
        libxl.keep(domid, shape.uuid, known)
        nodes = _nodes(domid, shape, rings, values)
        nodes += [node for device in given for node in device.nodes(domid)]
        await asyncio.to_thread(transaction.make_all, nodes)
        await self._store.introduce(domid, rings.store.frame, rings.store.port)


def _given(devices: Devices) -> list[Device]:
    """Raises AgentError when a disk is not attached."""
    disks = [libxl.of_disk(disk, nbd.one(disk.vdi).path) for disk in devices.disks]
    return disks + [libxl.of_vif(vif) for vif in devices.vifs]


def _nodes(domid: int, shape: Shape, rings: Rings, values: dict[str, str]) -> list[Node]:
    """A domain's own part of xenstore; `values` by their paths in it."""
    home, identity = f"/local/domain/{domid}", shape.uuid
    readable, own = ("n0", f"r{domid}"), (f"n{domid}",)
    below = [path for path in values if path.startswith("vm-data/")]
    return [
        Node(f"/vm/{identity}", {"name": identity, "uuid": identity}, readable),
        Node(f"/libxl/{domid}", {"type": shape.kind, "dm-version": "qemu_xen"}),
        Node(
            home,
            {
                "vm": f"/vm/{identity}",
                "name": identity,
                "domid": str(domid),
                **{f"cpu/{number}/availability": "online" for number in range(shape.vcpus)},
                "memory/static-max": str(shape.memory_kib),
                "memory/target": str(shape.memory_kib),
                "control/platform-feature-multiprocessor-suspend": "1",
                "control/platform-feature-xs_reset_watches": "1",
                "device/vbd": "",
                "device/vif": "",
                "store/ring-ref": str(rings.store.frame),
                "store/port": str(rings.store.port),
                "console/limit": str(CONSOLE_BYTES),
                "console/type": "xenconsoled",
                "console/output": "pty",
                "console/ring-ref": str(rings.console.frame),
                "console/port": str(rings.console.port),
                **{path: value for path, value in values.items() if path not in below},
            },
            readable,
        ),
        *(Node(f"{home}/{place}", {}, own) for place in GUESTS_OWN),
        Node(
            f"{home}/vm-data", {path.removeprefix("vm-data/"): values[path] for path in below}, own
        ),
    ]


def _shape_of(identity: str, configuration: dict[str, Any]) -> Shape:
    """Raises AgentError `bad_saved_state`."""
    try:
        kind, built = configuration["c_info"]["type"], configuration["b_info"]
        return Shape(identity, kind, int(built["max_vcpus"]), int(built["max_memkb"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError("bad_saved_state", f"a configuration without {error}") from error


def _configuration(wanted: Domain, shape: Shape) -> dict[str, Any]:
    """libxl's of a new domain, as far as it is not what libxl takes for granted."""
    return {
        "c_info": {
            "type": shape.kind,
            "name": shape.uuid,
            "uuid": shape.uuid,
            "run_hotplug_scripts": "True",
        },
        "b_info": {
            "max_vcpus": shape.vcpus,
            "avail_vcpus": list(range(shape.vcpus)),
            "tsc_mode": "native",
            "max_memkb": shape.memory_kib,
            "target_memkb": shape.memory_kib,
            "video_memkb": 0,
            "sched_params": {},
            "claim_mode": "True",
            "kernel": wanted.kernel,
            "cmdline": wanted.arguments,
            "ramdisk": wanted.ramdisk,
            f"type.{shape.kind}": {},
            "arch_arm": {},
            "arch_x86": {"msr_relaxed": "False"},
        },
        "on_reboot": "restart",
        "on_soft_reset": "soft_reset",
    }
