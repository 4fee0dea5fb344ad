"""A tenant's quota as pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from frontend.console.templatetags.figures import percent_of
from frontend.dashboard.errors import NAMES, amount
from tenants.models import Quota


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one dimension is taken."""

    dimension: str
    used: int
    limit: int

    @property
    def label(self) -> str:
        name = NAMES[self.dimension]
        return name if name == "vCPUs" else name.capitalize()

    @property
    def used_text(self) -> str:
        return amount(self.dimension, self.used)

    @property
    def limit_text(self) -> str:
        return amount(self.dimension, self.limit)

    @property
    def left_text(self) -> str:
        return amount(self.dimension, self.limit - self.used)

    @property
    def percent(self) -> int:
        return percent_of(self.used, self.limit)

    @property
    def level(self) -> str:
        """Full from 90 %, filling from 75 %, as the operators' meters are."""
        return "full" if self.percent >= 90 else "filling" if self.percent >= 75 else "fine"


def shares_of(quota: Quota) -> list[Share]:
    return [
        Share(name, getattr(quota, f"{name}_used"), getattr(quota, f"{name}_limit"))
        for name in NAMES
    ]
