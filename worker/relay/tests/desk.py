"""Relays of one pool, with the consoles that they read."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from hosting.fleet.models import Pool, VirtualMachine
from hosting.fleet.tests.makers import make_vm
from worker.relay.lead import Lead
from worker.relay.relay import Relay, redis_client
from worker.relay.tests.consoles import Consoles, Screen


class Desk:
    """A relay whose time and background are the test's."""

    def __init__(self, pool: Pool, consoles: Consoles) -> None:
        self.pool, self.consoles = pool, consoles
        self.now = 100.0
        self.relays: list[Relay] = []
        self.relay = self.another()

    def another(self, lead: Lead | None = None) -> Relay:
        relay = Relay(
            self.pool.pk,
            lambda _pool: self.consoles,  # type: ignore[arg-type, return-value]
            lead=lead or Lead(self.pool.pk, redis_client(), clock=lambda: self.now),
            in_background=lambda job: job(),
            clock=lambda: self.now,
        )
        self.relays.append(relay)
        return relay

    def leave(self, relay: Relay) -> None:
        self.relays.remove(relay)
        relay._leave()

    def guest(self, **given: Any) -> tuple[VirtualMachine, Screen]:
        vm = make_vm(self.pool, instance_uuid=uuid4())
        return vm, self.consoles.add(vm.pk, **given)

    def pass_by(self, seconds: float = 2.0, step: float = 0.25) -> None:
        """So much time, in which the relay does what it does."""
        until = self.now + seconds
        while self.now < until:
            self.relay.turn(0)
            self.now += step
        self.relay.turn(0)
