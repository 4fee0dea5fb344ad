"""A tree as one tar archive: pax format, normalised, in an order in which it can be unpacked at one go.

The same tree gives the same bytes. Builders that have a tool read this stream with it.
"""

import tarfile
from collections.abc import Iterator
from typing import Final

from worker.images.tree import Data, Node, Tree

CHUNK_BYTES: Final = 256 * 1024
_ZEROS: Final = bytes(CHUNK_BYTES)
END: Final = bytes(2 * tarfile.BLOCKSIZE)


def archive_of(tree: Tree) -> Iterator[bytes]:
    """The archive in pieces, end mark and all. Holes of sparse files are written out as zeros."""
    names: dict[Node, str] = {}
    for path, node in tree.walk():
        # The root is the folder that the archive is unpacked into: ".".
        yield _header(path or ".", node, names.get(node))
        if node in names:
            continue
        if node.children is None:
            names[node] = path
        if node.data is not None:
            yield from _content(node.data, node.size)
            yield bytes(-node.size % tarfile.BLOCKSIZE)
    yield END


def _header(path: str, node: Node, known_as: str | None) -> bytes:
    member = tarfile.TarInfo(path)
    member.type = node.kind
    member.mode = node.mode
    member.uid, member.gid, member.mtime = node.uid, node.gid, node.mtime
    member.devmajor, member.devminor = node.device
    member.linkname = node.target
    if known_as is not None:
        member.type, member.linkname = tarfile.LNKTYPE, known_as
    else:
        member.size = node.size
        member.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in node.xattrs}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(data: Data, size: int) -> Iterator[bytes]:
    at, written = data.offset, 0
    for offset, length in data.pieces:
        yield from _zeros(offset - written)
        left = length
        while left:
            # Somebody else may have read elsewhere in the archive meanwhile.
            data.archive.seek(at)
            chunk = data.archive.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError("a layer in the spool has become shorter")
            yield chunk
            at, left = at + len(chunk), left - len(chunk)
        written = offset + length
    yield from _zeros(size - written)


def _zeros(length: int) -> Iterator[bytes]:
    while length:
        yield _ZEROS[:length]
        length -= min(length, CHUNK_BYTES)
