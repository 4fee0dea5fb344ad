"""The process: one thread that waits for many consoles, a few that open them.

Which consoles there are to read, the mirror says, asked every second. A console that ends (its VM moved,
restarted, or stopped) is opened again after a pause as long as the mirror has the VM running. Nothing is
opened while what was read before is not kept yet, so that a Redis that is away costs no line twice.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from hosting.compute.output import append_lines, last_mark
from hosting.errors import Unavailable
from hosting.fleet.choices import PowerState
from hosting.fleet.models import Pool, VirtualMachine
from worker.follower import PoolForgotten
from worker.hypervisor.port import Hypervisor, HypervisorError
from worker.relay.boots import lines_since_start
from worker.relay.guest import Guest, Opened, Whereabouts
from worker.relay.lead import Lead
from worker.relay.openers import Job, Openers

log = structlog.get_logger(__name__)

# Seconds.
LOOK_EVERY = 1.0
HOLD_EVERY = 2.0
KEEP_EVERY = 0.25
AWAY = 2.0
STANDBY = 3.0

OPENERS, OPENERS_OF_A_HOST = 16, 2
OPEN_TIMEOUT = timedelta(seconds=10)
# Of one console before it is the next one's turn.
MOST_BYTES, CHUNK_BYTES = 64 * 1024, 16 * 1024

Connect: TypeAlias = Callable[[Pool], Hypervisor]
Finding: TypeAlias = tuple[Guest, Opened | str]


class NoConsole(Exception):
    """There is none that can be read at the moment; the text says why."""


class Relay:
    """Of one pool, until `stop` is set."""

    def __init__(
        self,
        pool: UUID,
        connect: Connect,
        *,
        lead: Lead | None = None,
        in_background: Callable[[Job], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = threading.Event()
        self._pool = pool
        self._connect = connect
        self._clock = clock
        self._lead = lead or Lead(pool, redis_client(), clock=clock)
        self._in_background = in_background or Openers(OPENERS)
        self._leads = False
        self._hypervisor: Hypervisor | None = None
        self._guests: dict[UUID, Guest] = {}
        self._found: SimpleQueue[Finding] = SimpleQueue()
        self._unread: set[Guest] = set()
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        self._hold_at = self._look_at = self._keep_at = clock()
        self._log = log.bind(pool=str(pool))

    def run(self) -> None:
        """Relay until told to stop. Raises PoolForgotten."""
        try:
            while not self.stop.is_set():
                self.turn()
            self._log.info("relay_stopped")
        finally:
            self._leave()

    def interrupt(self) -> None:
        """Stop soon. May be called by a signal."""
        self.stop.set()
        self._ring()

    def turn(self, patience: float = KEEP_EVERY) -> None:
        """One round: hold the lead, see who runs, read what they wrote, keep it."""
        now = self._clock()
        if now >= self._hold_at:
            self._hold(now)
        if not self._leads:
            self._listen(patience)
            return
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look(now)
        self._open_what_is_due(now)
        self._read(0 if self._unread else patience)
        self._take_in_what_was_opened()
        if self._clock() >= self._keep_at:
            self._keep(self._clock())

    # ----------------------------------------------------------------------------------------- the lead

    def _hold(self, now: float) -> None:
        led = self._leads
        try:
            self._leads = self._lead.hold()
        except redis.RedisError as error:
            # Nobody else can take it either: what is open is read on, and nothing is written meanwhile.
            self._log.warning("redis_away", error=str(error))
            self._hold_at = self._clock() + AWAY
            return
        self._hold_at = now + (HOLD_EVERY if self._leads else STANDBY)
        if led and not self._leads:
            self._let_go()
        if led != self._leads:
            self._log.info("relaying" if self._leads else "standing_by")

    # ------------------------------------------------------------------------------------------ who runs

    def _look(self, now: float) -> None:
        try:
            pool = Pool.objects.filter(pk=self._pool).first()
            running = {vm: (instance, where) for vm, instance, where in self._running()}
        except (OperationalError, InterfaceError) as error:
            # What is open is read on; the mirror is as good in a second.
            self._log.warning("database_away", error=str(error).strip())
            return
        finally:
            close_old_connections()
        if pool is None:
            raise PoolForgotten(self._pool)
        self._hypervisor = self._connect(pool)
        for vm in self._guests.keys() - running.keys():
            self._forget(self._guests[vm])
        for vm, (instance, where) in running.items():
            self._meet(vm, instance, where, now)

    def _running(self) -> list[tuple[UUID, UUID, Whereabouts]]:
        ours = VirtualMachine.objects.filter(
            pool=self._pool,
            instance_uuid__isnull=False,
            power_state=PowerState.RUNNING,
            is_a_template=False,
            is_a_snapshot=False,
        )
        rows = ours.order_by().values_list("uuid", "instance_uuid", "resident_on", "started_at")
        return [
            (vm, instance, Whereabouts(host, started_at))
            for vm, instance, host, started_at in rows
            if instance is not None
        ]

    def _meet(self, vm: UUID, instance: UUID, where: Whereabouts, now: float) -> None:
        guest = self._guests.get(vm)
        if guest is None:
            self._guests[vm] = Guest(vm, instance, where, due=now)
        elif guest.whereabouts != where:
            moved = guest.whereabouts.host != where.host
            guest.whereabouts = where
            # The host that it left may keep the old console open for ever: XAPI closes it, a network does not.
            if guest.reading is not None and moved and guest.reading.host != where.host:
                self._end(guest)
            if guest.reading is None:
                guest.hasten(now)

    def _forget(self, guest: Guest) -> None:
        if guest.reading is not None:
            self._end(guest)
        if guest.framed is not None:
            guest.pending += guest.framed.unfinished()
        self._keep_lines_of(guest)
        del self._guests[guest.vm]

    # ------------------------------------------------------------------------------------------- opening

    def _open_what_is_due(self, now: float) -> None:
        busy = Counter(g.whereabouts.host for g in self._guests.values() if g.is_being_opened)
        for guest in self._guests.values():
            host = guest.whereabouts.host
            if (
                guest.reading is None
                and not guest.is_being_opened
                and guest.due <= now
                and not guest.pending
                and busy[host] < OPENERS_OF_A_HOST
            ):
                assert self._hypervisor is not None
                busy[host] += 1
                guest.is_being_opened = True
                self._in_background(partial(self._open, self._hypervisor, guest))

    def _open(self, hypervisor: Hypervisor, guest: Guest) -> None:
        """In a thread of the background: touches nothing of the relay but the queue of what was found."""
        found: Opened | str
        try:
            found = _opened(hypervisor, guest.vm, guest.instance)
        except (HypervisorError, NoConsole, Unavailable) as error:
            found = str(error)
        except Exception as error:
            self._log.exception("relay_broken", vm=str(guest.vm))
            found = repr(error)
        close_old_connections()  # a login in this thread writes down the pool's hosts
        self._found.put((guest, found))
        self._ring()

    def _take_in_what_was_opened(self) -> None:
        while True:
            try:
                guest, found = self._found.get_nowait()
            except Empty:
                return
            guest.is_being_opened = False
            is_wanted = self._guests.get(guest.vm) is guest
            if isinstance(found, str):
                self._note_failure(guest, found)
            elif is_wanted:
                guest.read_from(found, self._clock())
                self._selector.register(found.stream, selectors.EVENT_READ, guest)
                self._unread.add(guest)  # some may have come with the answer's head
            else:
                found.stream.close()

    def _note_failure(self, guest: Guest, reason: str) -> None:
        guest.postpone(self._clock())
        if guest.failures == 1:
            self._log.info("console_not_opened", vm=str(guest.vm), reason=reason)

    # ------------------------------------------------------------------------------------------- reading

    def _read(self, patience: float) -> None:
        ready = self._unread | self._listen(patience)
        self._unread = set()
        for guest in ready:
            self._read_from(guest)

    def _listen(self, patience: float) -> set[Guest]:
        """Who has something to say, after `patience` seconds at most."""
        ready = set()
        for key, _ in self._selector.select(patience):
            if key.data is None:
                self._ear.recv(4096)
            else:
                ready.add(key.data)
        return ready

    def _read_from(self, guest: Guest) -> None:
        """What it has written, but no more than its turn allows: the next one's comes soon."""
        taken = 0
        while guest.reading is not None:
            try:
                data = guest.reading.stream.recv_nowait(CHUNK_BYTES)
            except OSError:
                data = b""
            if data is None:
                return
            if not data:
                self._end(guest)
                return
            guest.take(data, self._clock())
            taken += len(data)
            if taken >= MOST_BYTES:
                self._unread.add(guest)
                return

    def _end(self, guest: Guest) -> None:
        assert guest.reading is not None
        self._unread.discard(guest)
        self._selector.unregister(guest.reading.stream)
        guest.end(self._clock())

    # ------------------------------------------------------------------------------------------- keeping

    def _keep(self, now: float) -> None:
        self._keep_at = now + KEEP_EVERY
        for guest in self._guests.values():
            guest.settle(now)
            if not self._keep_lines_of(guest):
                self._keep_at = self._clock() + AWAY
                return
            self._talk(guest, now)

    def _keep_lines_of(self, guest: Guest) -> bool:
        """False when they could not be kept; they stay pending, the newest of them."""
        mark = guest.mark
        if not guest.pending and mark == guest.kept_mark:
            return True
        if not self._lead.is_held:
            return False
        try:
            self._settle_doubt(guest)
            append_lines(guest.instance, guest.pending, mark)
        except Unavailable as error:
            # They may be kept already: a mark will tell, and without one they come twice.
            if mark is not None and guest.in_doubt is None:
                guest.in_doubt = mark, len(guest.pending)
            self._log.warning("lines_not_kept", error=str(error.__cause__ or error))
            return False
        guest.pending.clear()
        guest.kept_mark, guest.in_doubt = mark, None
        return True

    def _settle_doubt(self, guest: Guest) -> None:
        """Raises Unavailable."""
        if guest.in_doubt is None:
            return
        mark, count = guest.in_doubt
        if last_mark(guest.instance) == mark:
            for _ in range(min(count, len(guest.pending))):
                guest.pending.popleft()
        guest.in_doubt = None

    def _talk(self, guest: Guest, now: float) -> None:
        """Only who leads, and after what was read is kept: what is acknowledged the guest forgets."""
        if guest.reading is None or not self._lead.is_held:
            return
        try:
            guest.reading.talk(now)
        except OSError:
            self._end(guest)

    # ------------------------------------------------------------------------------------------ the end

    def _let_go(self) -> None:
        """Another relay leads: it reads from now on."""
        for guest in self._guests.values():
            if guest.reading is not None:
                self._end(guest)
        self._guests.clear()

    def _leave(self) -> None:
        now = self._clock()
        for guest in self._guests.values():
            guest.settle(now)
            if guest.reading is not None:
                self._end(guest)
        for guest in self._guests.values():
            if not self._keep_lines_of(guest):
                break
        try:
            self._lead.give_up()
        except redis.RedisError as error:
            self._log.warning("lead_not_given_up", error=str(error))
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:
            return  # it is rung already, or everything is over


def _opened(hypervisor: Hypervisor, vm: UUID, instance: UUID) -> Opened:
    """Raises HypervisorError, NoConsole, Unavailable."""
    record = hypervisor.vm(vm)  # the mirror may not have heard yet where it went
    if record.power_state != "Running":
        raise NoConsole("the VM does not run")
    console = next((one for one in hypervisor.consoles(vm) if one.protocol == "vt100"), None)
    if console is None:
        raise NoConsole("the VM has no text console")
    kept = lines_since_start(instance, record.started_at)
    return Opened(
        hypervisor.open_console(console, OPEN_TIMEOUT),
        record.resident_on,
        kept,
        last_mark(instance),
    )


def redis_client() -> redis.Redis:
    """One that gives up soon."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
