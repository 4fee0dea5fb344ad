"""Fields of tar headers: numbers in their several spellings, records of pax, maps of holes.

What is none raises LayerMalformed.
"""

import re
import zlib
from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from worker.images.errors import LayerMalformed

LARGEST_FILE: Final = 2**44
"""What ext4 could hold; a sparse file may claim to be larger than its archive."""
_SECONDS: Final = re.compile(rb"(-?)(\d{1,15})(?:\.(\d*))?")


def records_of(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Lines of "length key=value", where the length counts itself."""
    at, end = 0, len(body)
    while at < end:
        space = body.find(b" ", at, at + 9)
        digits = body[at:space]
        if space < 0 or not digits.isdigit():
            raise LayerMalformed
        stop = at + int(digits)
        if stop > end or stop <= space or body[stop - 1 : stop] != b"\n":
            raise LayerMalformed
        key, is_pair, value = body[space + 1 : stop - 1].partition(b"=")
        if not is_pair or not key or b"\0" in key:
            raise LayerMalformed
        yield key, value
        at = stop


def adds_up(block: bytes) -> bool:
    """Is the header's sum right? Adler-32's lower half is one more than the sum of bytes, modulo 65521.

    Some old programs took bytes as signed.
    """
    field = block[148:156]
    told = number_of(field)
    if (told + sum(field) - 8 * 32 + 1) % 65521 == zlib.adler32(block) & 0xFFFF:
        return True
    blanked = block[:148] + b" " * 8 + block[156:]
    return told == sum(byte - 256 if byte > 127 else byte for byte in blanked)


@lru_cache(1024)
def number_of(field: bytes) -> int:
    """A header's number: octal digits, or with the first bit set the number itself in two's complement (GNU)."""
    text = field.strip(b" \0")
    if text.isdigit() and text.isascii():
        try:
            return int(text, 8)
        except ValueError as error:
            raise LayerMalformed from error
    if not text:
        return 0
    if field[0] & 0x80:
        sign = -(1 << 8 * len(field) - 1) * (field[0] >> 6 & 1)
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") + sign
        if not -(2**63) <= number < 2**63:
            raise LayerMalformed
        return number
    digits, _, _ = text.partition(b"\0")
    if digits == text:
        raise LayerMalformed
    return number_of(digits)


def text_of(field: bytes) -> bytes:
    """What stands before the first nought."""
    return field.partition(b"\0")[0]


def decimal_of(value: bytes) -> int:
    """A number of pax: digits only."""
    if not value.isdigit() or len(value) > 20:
        raise LayerMalformed
    return int(value)


def seconds_of(value: bytes) -> int:
    """A time of pax, rounded down."""
    match = _SECONDS.fullmatch(value)
    if match is None:
        raise LayerMalformed
    sign, whole, part = match.groups()
    if not sign:
        return int(whole)
    return -int(whole) - bool((part or b"").strip(b"0"))


def size_of(number: int) -> int:
    """The number itself, if a file can be so large."""
    if not 0 <= number <= LARGEST_FILE:
        raise LayerMalformed("One of the image's layers has a size that no file can have.")
    return number


def add_piece(pieces: "array[int]", offset: int, length: int) -> None:
    """One more piece of a sparse file."""
    pieces.append(size_of(offset))
    pieces.append(size_of(length))


def check_pieces(pieces: "array[int]", size: int, stored: int) -> None:
    """The pieces rise, lie within the file, and are what the archive holds of it."""
    size_of(size)
    reached = held = 0
    for at, length in zip(pieces[::2], pieces[1::2], strict=True):
        if at < reached:
            raise LayerMalformed
        reached, held = at + length, held + length
    if reached > size or held != stored:
        raise LayerMalformed
