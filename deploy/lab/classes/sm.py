"""Storage drivers: what the SM records say that each can do (recorded: records_fresh_pool)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

_LISTED = ("smb", "iso", "lvm", "nfs", "udev", "dummy", "lvmoiscsi", "ext", "lvmohba", "file")
"""The order in which the daemon names its drivers (that of a hash table)."""


def features(lab: Lab, sr: Row) -> Mapping[str, int]:
    """Feature → version of the SR's driver; nothing when there is no such driver."""
    driver = driver_of(lab, sr.type)
    return driver.features if driver is not None else {}


def driver_of(lab: Lab, kind: str) -> Row | None:
    """The driver of an SR type. There are about ten, so looking at each is cheap."""
    drivers = lab.db.tables["SM"].rows.values()
    return next((driver for driver in drivers if driver.type == kind), None)


def types(lab: Lab) -> list[str]:
    """Every SR type that has a driver."""
    found = {str(driver.type) for driver in lab.db.all("SM")}
    return [kind for kind in _LISTED if kind in found] + sorted(found.difference(_LISTED))
