"""Names and other_config keys that our XAPI objects carry, so that a repeated step finds its own work.

Names are made from our UUIDs alone and never change. Everything here must survive being copied: VDI.clone,
VDI.copy and VM.clone take other_config along from their source, so an object's own tag names the object
itself, and one that names another is an unfinished copy.
"""

from uuid import UUID

PREFIX = "hosting:"

# other_config keys. Values are UUIDs in text unless said otherwise.
INSTANCE = f"{PREFIX}instance"  # VM, VDI, VIF: the Instance it serves
BLANK = f"{PREFIX}blank"  # VM, VDI: the Blank that it is or serves, until an instance takes it
PARKING = f"{PREFIX}parking"  # network: the host whose blanks have their interfaces on it
TENANT = f"{PREFIX}tenant"  # VM, VDI, network: whose it is
SEGMENT = f"{PREFIX}segment"  # network: the Segment that it is
VDI = f"{PREFIX}vdi"  # VDI: its own XAPI uuid; another one marks an unfinished clone
VOLUME = f"{PREFIX}volume"  # VDI: the Volume it is
IMAGE = f"{PREFIX}image"  # VDI: the digest ("sha256:…") of the image it holds, all of it
FILLING = f"{PREFIX}filling"  # VDI: the digest of the image that is being written to it
OPERATION = f"{PREFIX}operation"  # task: the Operation that started it


def uuid_in(value: object) -> UUID | None:
    """What a marker names; None for anything else, since others can write there too."""
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def instance_name(uuid: UUID) -> str:
    """The name_label of an Instance's VM."""
    return f"instance-{uuid}"


def blank_name(uuid: UUID) -> str:
    """The name_label of a Blank's VM, until it is an instance's."""
    return f"blank-{uuid}"


def blank_disk_name(uuid: UUID) -> str:
    """The name_label of a Blank's scratch disk, until it is an instance's."""
    return f"{blank_name(uuid)}-scratch"


def parking_name(host: UUID) -> str:
    """The name_label of the network that a host's blanks have their interfaces on: no cable leaves it."""
    return f"parking-{host}"


def volume_name(uuid: UUID) -> str:
    """The name_label of a Volume's VDI."""
    return f"volume-{uuid}"


def image_name(digest: str, builder: str) -> str:
    """The name_label of an image's golden VDI: its digest ("sha256:…"), and who built it ("erofs-2")."""
    return f"image-{digest}-{builder}"


def network_name(segment: UUID) -> str:
    """The name_label of a Segment's network."""
    return f"network-{segment}"


def disk_name(instance: UUID, role: str) -> str:
    """The name_label of one of an Instance's own disks: "root", "config" or "scratch"."""
    return f"{instance_name(instance)}-{role}"
