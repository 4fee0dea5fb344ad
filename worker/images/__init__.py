"""From the name of an image to a root disk: pinned by digest, checked, and never unpacked onto our files.

images = Images(Spool("/var/lib/bulkhead/spool"), Reach.parse(allowed=["10.1.0.0/16"]))
image = images.resolve(Reference.parse("nginx:1.27"))
with images.spool.file() as file:
    disk = images.build(image, file)
    hypervisor.import_vdi(vdi, disk_pieces(file, disk.size_bytes), timeout=…)
"""

from worker.images.builders import Builder, disk_pieces
from worker.images.errors import ImageError, ImageRefused, ImageUnavailable
from worker.images.images import Images
from worker.images.reach import Reach
from worker.images.records import (
    Credentials,
    ImageConfig,
    Limits,
    Platform,
    Resolved,
    RootDisk,
)
from worker.images.reference import InvalidReference, Reference
from worker.images.spool import Spool

__all__ = [
    "Builder",
    "Credentials",
    "ImageConfig",
    "ImageError",
    "ImageRefused",
    "ImageUnavailable",
    "Images",
    "InvalidReference",
    "Limits",
    "Platform",
    "Reach",
    "Reference",
    "Resolved",
    "RootDisk",
    "Spool",
    "disk_pieces",
]
