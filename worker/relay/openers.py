"""A few threads that open consoles, since a host that hangs must hold up no other's.

Daemons: whoever ends the relay waits for no host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]


class Openers:
    """Runs jobs, each of which has to look after its own failures."""

    def __init__(self, threads: int) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"opener-{number}", daemon=True).start()

    def __call__(self, job: Job) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
