"""Blobs: named binary attachments of objects. Only their records are kept."""

from __future__ import annotations

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError


@message(
    "network.create_new_blob",
    "VM.create_new_blob",
    "SR.create_new_blob",
    "host.create_new_blob",
    "pool.create_new_blob",
)
def create_new_blob(call: Call, owner: Row, name: str, mime_type: str, public: bool) -> str:
    """Raises MAP_DUPLICATE_KEY when the object has a blob of that name."""
    if name in owner.blobs:
        raise XapiError("MAP_DUPLICATE_KEY", owner.cls, "blobs", owner.ref, name)
    blob = create(call, mime_type, public)
    call.db.update(owner, blobs={**owner.blobs, name: blob})
    return blob


@message("blob.create")
def create(call: Call, mime_type: str, public: bool) -> str:
    return call.db.create(
        "blob",
        mime_type=mime_type or "application/octet-stream",
        public=public,
    ).ref


@message("blob.destroy")
def destroy(call: Call, blob: Row) -> None:
    """VMs forget it; what else had it keeps a reference that leads nowhere (xapi_blob.ml)."""
    for vm in call.db.all("VM"):
        if blob.ref in vm.blobs.values():
            kept = {name: ref for name, ref in vm.blobs.items() if ref != blob.ref}
            call.db.update(vm, blobs=kept)
    call.db.delete(blob)
