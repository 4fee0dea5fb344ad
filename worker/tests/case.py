"""What a case is, for worker/tests/cases.py and the modules that it gathers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from hosting.operations.models import Operation


class Case(ABC):
    """One fresh world for one run of one workflow."""

    kind: ClassVar[str]
    hypervisor: Any
    operation: Operation

    @abstractmethod
    def assert_arrived(self) -> None:
        """The goal is reached, once."""

    @abstractmethod
    def assert_left_nothing(self) -> None:
        """Neither our rows nor the hypervisor hold anything of it."""
