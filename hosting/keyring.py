"""Secrets at rest: sealed with the first key of the ring, opened with any of them.

To rotate: put a new key in front of KEY_RING, restart, run `manage.py reseal`, drop the old key.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class BrokenSeal(Exception):
    """No key of the ring opens this secret: a key was dropped too early, or the row was tampered with."""


def seal(secret: str) -> str:
    """`secret` as printable text that is safe to store."""
    return ring().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """What was sealed. Raises BrokenSeal."""
    try:
        return ring().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise BrokenSeal from error


def reseal(sealed: str) -> str:
    """The same secret under the first key of the ring. Raises BrokenSeal."""
    try:
        return ring().rotate(sealed.encode()).decode()
    except InvalidToken as error:
        raise BrokenSeal from error


def ring() -> MultiFernet:
    """The keys themselves, for stores that seal what they keep."""
    return _ring(tuple(settings.KEY_RING))


@lru_cache(maxsize=4)
def _ring(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
