from __future__ import annotations

import asyncio
from pathlib import Path

from deploy.lab.lab import Config, Lab
from deploy.lab.resume import save
from deploy.lab.state import StateFile
from deploy.lab.storage import Storage


async def started(path: Path) -> tuple[Lab, StateFile]:
    state = StateFile(path)
    return Lab(Config(hosts=2, rate=0.0), state), state


def made_disk(storage: Storage) -> str:
    """The uuid of a disk on the shared SR, which a VM of h2 has open."""
    db, lab = storage.lab.db, storage.lab
    sr = next(row for row in db.all("SR") if row.type == "nfs")
    vdi = db.create("VDI", SR=sr.ref, virtual_size=2**20, managed=True)
    storage.known.remember(sr, vdi)
    storage.write(vdi, 5, b"kept")
    storage.branch(vdi, "clone")
    storage.attachments.opened(lab.machine("h2"), vdi, "RW", "some-vm")
    return str(vdi.uuid)


async def reopened(path: Path) -> None:
    lab, state = await started(path)
    uuid = made_disk(lab.storage)
    save(lab, state)
    state.close()
    await lab.close()

    again, state = await started(path)
    vdi = again.db.by_uuid("VDI", uuid)
    assert again.storage.read(vdi, 5, 4) == b"kept"
    assert again.storage.blocks.read("clone", 5, 4) == b"kept"
    assert again.storage.blocks.get(uuid).depth == 2
    assert again.storage.attachments.mode(again.machine("h2"), uuid) == "RW"
    state.close()
    await again.close()


def test_a_lab_that_comes_back_has_its_disks_and_who_has_them_open(tmp_path: Path) -> None:
    asyncio.run(reopened(tmp_path / "lab.state"))
