"""Extended attributes: which of a layer's are kept, and what the kernel would take of them.

Kept is what means something in a guest. Attributes of overlayfs and of security modules are about the
machine that built the image, and could mislead the one that runs it.
"""

from typing import Final

from worker.images.errors import LayerMalformed

Attributes = tuple[tuple[bytes, bytes], ...]

CAPABILITY: Final = b"security.capability"
ACLS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
_USER: Final = b"user."
_OVERLAY: Final = b"user.overlay."
_LONGEST_NAME: Final = 255
_LONGEST_VALUE: Final = 65535
_MOST_BYTES: Final = 65536
"""Of one file's names and values together."""
_CAPABILITY_BYTES: Final = (12, 20, 24)
"""linux/capability.h: XATTR_CAPS_SZ_1 to _3."""


def kept(attributes: Attributes) -> Attributes:
    """Those that go into the image, in the order given. Raises LayerMalformed for what no file can have."""
    found = tuple(
        (name, value)
        for name, value in attributes
        if name == CAPABILITY
        or name in ACLS
        or (name.startswith(_USER) and not name.startswith(_OVERLAY))
    )
    if not all(_is_possible(name, value) for name, value in found) or (
        sum(len(name) + len(value) for name, value in found) > _MOST_BYTES
    ):
        raise LayerMalformed("One of the image's layers has an attribute that no file can have.")
    return found


def _is_possible(name: bytes, value: bytes) -> bool:
    if name == CAPABILITY:
        return len(value) in _CAPABILITY_BYTES
    if name in ACLS:
        # linux/posix_acl_xattr.h: a version, then eight bytes an entry.
        return value[:4] == b"\2\0\0\0" and len(value) % 8 == 4
    return len(_USER) < len(name) <= _LONGEST_NAME and len(value) <= _LONGEST_VALUE
