"""A guest that really runs: what the lab knows of its domain, from what the host's agent tells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.guest import End, Guest
from deploy.lab.operations import refresh
from deploy.lab.xl import facts

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

log = logging.getLogger(__name__)

SETTLE = 0.5
"""Seconds from a guest's first word until it is passed on."""
MOST_VALUES = 1000
"""Values of one guest that are kept; xenstore's own quota is lower."""
_ENDS: dict[str, End] = {"reboot": "reboot", "crash": "crash"}


class RealGuest(Guest):
    """`Guest` without a will of its own: time, boot and end are the domain's."""

    def __init__(self, lab: Lab, vm: Row, on_end: Callable[[Guest, End], None]) -> None:
        super().__init__(lab, vm, on_end)
        self.values: dict[str, str] = {}
        """What the guest's part of xenstore holds: path → value."""
        self.disks: list[str] = []
        """VDIs that its host has attached for it."""
        self._is_reporting = False
        self.ask_for: Callable[[End], None] = lambda reason: None
        """Asks the domain to shut down; set by the backend."""

    # --- time is the domain's

    def thaw(self) -> None:
        self.paused = False

    def freeze(self) -> None:
        self.paused = True

    # --- what it tells

    def hear(self, path: str, value: str | None) -> None:
        """The guest changed a value in xenstore."""
        if value is None:
            self.values.pop(path, None)
        elif path in self.values or len(self.values) < MOST_VALUES:
            self.values[path] = value
        if path.startswith("vm-data/"):
            self._show_data(path, value)
        elif path.startswith(("attr/", "data/", facts.FEATURE)):
            self._report_soon()

    def _report_soon(self) -> None:
        """A kernel says what it can do in several writes: wait for the others after the first."""
        if not self._is_reporting:
            self._is_reporting = True
            self.lab.spawn(self._report_settled())

    async def _report_settled(self) -> None:
        await self.lab.clock.sleep(SETTLE)
        self._is_reporting = False
        self.report()

    def _show_data(self, path: str, value: str | None) -> None:
        data = {key: held for key, held in self.vm.xenstore_data.items() if key != path}
        if value is not None:
            data[path] = value
        if data != self.vm.xenstore_data:
            self.lab.db.update(self.vm, xenstore_data=data)

    def report(self) -> None:
        metrics = self.lab.db.find("VM_guest_metrics", self.vm.guest_metrics)
        told = facts.guest_metrics(self.values)
        self.is_up = bool(told["PV_drivers_detected"])
        if metrics is not None and any(metrics.fields[name] != told[name] for name in told):
            self.lab.db.update(metrics, **told, last_updated=self.lab.clock.date())
            # What may be asked of it depends on what it can do (xapi_guest_agent.ml).
            refresh(self.lab, self.vm)

    # --- its end

    def acknowledges(self) -> bool:
        """Its kernel listens to requests (xenbus: drivers/xen/manage.c)."""
        return self.values.get("control/feature-poweroff") == "1"

    def obey(self, reason: End) -> None:
        self.ask_for(reason)

    def ended_by_itself(self, reason: str) -> None:
        """The host says that the domain is gone: `poweroff`, `reboot`, `crash`, `killed`."""
        if self.ended is None and not self.stopped.is_set():
            end = _ENDS.get(reason, "poweroff")
            self._stop(end)
            self.on_end(self, end)

    def tell(self, action: str) -> None:
        if action in ("exit", "reboot"):
            self.ask_for("reboot" if action == "reboot" else "poweroff")
        else:
            log.warning("a real guest is not told to %s", action)

    # --- keeping it

    def saved(self) -> dict[str, Any]:
        return super().saved() | {"values": self.values, "disks": self.disks}

    @classmethod
    def restored(
        cls, lab: Lab, vm: Row, saved: dict[str, Any], on_end: Callable[[Guest, End], None]
    ) -> RealGuest:
        guest = cls(lab, vm, on_end)
        guest.started_at, guest.paused = saved["started_at"], saved["paused"]
        guest.values = dict(saved.get("values", {}))
        guest.disks = list(saved.get("disks", []))
        guest.is_up = facts.is_up(guest.values)
        guest.console.write(saved["console"].encode("latin-1"))
        return guest
