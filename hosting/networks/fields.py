"""A column of PostgreSQL's type `cidr`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from django.db import models


class CidrField(models.Field[IPv4Network, IPv4Network]):
    """An IPv4 subnet: its base address and the length of its prefix. PostgreSQL refuses bits beyond that."""

    def db_type(self, connection: Any) -> str:
        return "cidr"

    def from_db_value(self, value: str | None, *_: object) -> IPv4Network | None:
        return self.to_python(value)

    def to_python(self, value: Any) -> IPv4Network | None:
        return value if value is None else IPv4Network(value)

    def get_prep_value(self, value: Any) -> str | None:
        return value if value is None else str(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))
