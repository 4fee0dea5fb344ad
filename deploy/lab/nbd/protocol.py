"""The protocol's numbers and layouts, by the names that proto.md gives them. Everything is big-endian."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

NBDMAGIC = b"NBDMAGIC"
IHAVEOPT = b"IHAVEOPT"
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698

OPTION = struct.Struct(">8sII")
"""magic, option, length of its data"""
OPTION_REPLY = struct.Struct(">QIII")
"""magic, option, reply type, length of its data"""
REQUEST = struct.Struct(">IHHQQI")
"""magic, command flags, command, cookie, offset, length"""
SIMPLE_REPLY = struct.Struct(">IIQ")
"""magic, error, cookie"""

LARGEST_REQUEST = 32 * 1024**2
"""Bytes of one read or write, as proto.md advises where nothing else was agreed on."""
LARGEST_OPTION = 8 * 1024
LONGEST_NAME = 4096
PREFERRED_BLOCK = 64 * 1024


class HandshakeFlag(IntFlag):
    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7


class Reply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    ERR_UNSUP = 2**31 + 1
    ERR_POLICY = 2**31 + 2
    ERR_INVALID = 2**31 + 3
    ERR_UNKNOWN = 2**31 + 6
    ERR_TOO_BIG = 2**31 + 9


class Info(IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6


class CommandFlag(IntFlag):
    FUA = 1
    NO_HOLE = 2
    FAST_ZERO = 16


class Error(IntEnum):
    """What a simple reply says went wrong; 0 is success."""

    EPERM = 1
    EIO = 5
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ESHUTDOWN = 108


class NbdError(Exception):
    """A request that is answered with `error`."""

    def __init__(self, error: Error, why: str = "") -> None:
        super().__init__(why or error.name)
        self.error = error
