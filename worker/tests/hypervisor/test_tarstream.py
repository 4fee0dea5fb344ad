"""What we send of a disk is what the receiver rebuilds, and no more than needed."""

import hashlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hypervisor.xapi.tarstream import BLOCK_BYTES, blocks, encoded

MIB = 1024 * 1024


def received(stream: bytes, size: int) -> bytes:
    """As xapi does it (stream_vdi.ml): holes are zeros, each block is followed by its checksum."""
    image = bytearray(size)
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r:") as archive:
        members = archive.getmembers()
        assert [m.name for m in members[1::2]] == [f"{m.name}.checksum" for m in members[::2]]
        numbers = [int(member.name.removeprefix("vdi/")) for member in members[::2]]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, (size - 1) // BLOCK_BYTES)
        for number, block, checksum in zip(numbers, members[::2], members[1::2], strict=True):
            content = _content(archive, block)
            assert _content(archive, checksum) == hashlib.sha1(content).hexdigest().encode()
            image[number * BLOCK_BYTES : number * BLOCK_BYTES + len(content)] = content
    return bytes(image)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


@settings(deadline=None, max_examples=40)
@given(
    sectors=st.integers(1, 7 * 2048),
    pieces=st.lists(st.tuples(st.integers(0, 7 * MIB), st.binary(min_size=1, max_size=4096))),
)
def test_the_receiver_rebuilds_the_disk(sectors: int, pieces: list[tuple[int, bytes]]) -> None:
    size, image, data, reached = sectors * 512, bytearray(sectors * 512), [], 0
    for offset, piece in sorted(pieces):
        if offset >= reached and offset + len(piece) <= size:
            image[offset : offset + len(piece)] = piece
            data.append((offset, piece))
            reached = offset + len(piece)
    assert received(b"".join(encoded(data, size)), size) == image


def test_a_piece_longer_than_a_block_is_cut() -> None:
    image = bytes(range(256)) * (3 * MIB // 256)
    assert received(b"".join(encoded([(0, image)], 3 * MIB)), 3 * MIB) == image


def test_blocks_of_zeros_are_not_sent_but_both_ends_are() -> None:
    data = [(5 * MIB, b"\0" * 512), (7 * MIB, b"x")]
    assert [number for number, _ in blocks(data, 10 * MIB)] == [0, 7, 9]


def test_an_empty_disk_of_one_block_is_one_block() -> None:
    assert [(n, len(block)) for n, block in blocks([], 512)] == [(0, 512)]


@pytest.mark.parametrize(
    "data", [[(512, b"x"), (0, b"y")], [(0, b"xx"), (1, b"y")], [(2 * MIB, b"x")]]
)
def test_pieces_out_of_order_or_beyond_the_end_are_refused(data: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ValueError, match="in order"):
        list(blocks(data, 2 * MIB))


@pytest.mark.parametrize("size", [0, -512, 513])
def test_a_size_that_is_not_whole_sectors_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="sectors"):
        list(blocks([], size))
