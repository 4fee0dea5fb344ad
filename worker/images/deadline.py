"""A point in time after which an image is given up for now."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from worker.images.errors import TookTooLong


class Deadline:
    """Begins when made. `clock` gives seconds that never go back."""

    def __init__(self, after: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + after.total_seconds()

    def remaining(self) -> float:
        """Seconds, more than none. Raises TookTooLong when it is over."""
        seconds = self._end - self._clock()
        if seconds <= 0:
            raise TookTooLong
        return seconds

    def check(self) -> None:
        """Raises TookTooLong when it is over."""
        self.remaining()

    @contextmanager
    def over_on_error(self) -> Iterator[None]:
        """Whoever else works under this deadline ends soon when the `with` is left by an error."""
        try:
            yield
        except BaseException:
            self._end = self._clock()
            raise
