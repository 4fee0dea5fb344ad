"""Keeps the mirror of one pool in step with it, and wakes operations whose world changed.

One follower leads per pool, by a lease in the Pool row; others stand by and take over when the lease runs
out. Whoever gains the lead starts from a full snapshot, and so does a leader that could not write what it
was told: a mirror may be behind, never wrong.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from types import FrameType
from typing import Protocol, TypeAlias
from uuid import UUID, uuid4

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from hosting.alarms.choices import Severity
from hosting.alarms.services import close_alarm, open_alarm
from hosting.compute.selectors import tenants_of_instances
from hosting.fleet.choices import PoolState
from hosting.fleet.models import Pool
from hosting.fleet.notices import publish_change
from hosting.operations.services import wake_about
from tenants.notices import tell_on_commit
from worker import mirror
from worker.hypervisor.port import Changes, HypervisorError, Watcher

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
SURE = 10.0
"""Seconds after a renewal in which nobody else can have taken the lead, whatever our own clock does."""
BETWEEN = 0.1
"""Seconds from one writing to the next asking."""
PATIENCE = timedelta(seconds=5)
STANDBY = timedelta(seconds=3)
LONGEST_BACKOFF = timedelta(seconds=15)
ALARM_AFTER = timedelta(minutes=3)

Watch: TypeAlias = Callable[[Pool], Watcher]
Publish: TypeAlias = Callable[[UUID, Collection[str]], None]
Pause: TypeAlias = Callable[[timedelta], None]


class LeadLost(Exception):
    """Another follower took over; what this one was told must not be written."""


class PoolForgotten(Exception):
    """The pool is not enrolled any more."""


class Stopped(BaseException):
    """A signal came while the watcher waited: nothing is lost by leaving at once."""


class Follower:
    """Follows one pool until `stop` is set. `watch` makes a watcher for the pool as it is known now."""

    def __init__(
        self,
        pool: UUID,
        watch: Watch,
        *,
        publish: Publish = publish_change,
        stop: threading.Event | None = None,
        pause: Pause | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self._pool = pool
        self._watch = watch
        self._publish = publish
        self._pause = pause or (lambda time: _nothing(self.stop.wait(time.total_seconds())))
        self._token = uuid4()
        self._watcher: Watcher | None = None
        self._failures = 0
        self._sure_until = 0.0
        self._wrote_at = -BETWEEN
        self._trouble_may_stand = True
        self._is_waiting = False
        self._log = log.bind(pool=str(pool))

    def run(self) -> None:
        """Follow until told to stop. Raises PoolForgotten."""
        try:
            while not self.stop.is_set():
                self.turn()
        except Stopped:
            self._log.info("follower_stopped")
        finally:
            self._leave()

    def once(self) -> bool:
        """Mirror the pool as it is now, and let go. False when another follower leads already.

        Raises whatever goes wrong, HypervisorError above all.
        """
        try:
            if not Pool.objects.filter(pk=self._pool).take_lead(self._token, LEASE):
                return False
            self._write(self._changes())
            return True
        finally:
            self._leave()

    def turn(self) -> None:
        """One round: hold the lead, wait for changes, write them. Ends in a pause if it went wrong."""
        try:
            self._turn()
        except LeadLost:
            self._log.warning("lead_lost")
            self._forget_watcher()
        except (OperationalError, InterfaceError) as error:
            self._log.warning("database_unreachable", error=str(error).strip())
            self._fail()
        except PoolForgotten:
            raise
        except Exception:
            self._log.exception("follower_broken")
            self._fail()
            self._tell_of_a_fault()
        close_old_connections()
        if self._failures:
            self._pause(self._backoff())

    def _turn(self) -> None:
        if not self._leads():
            self._stand_by()
            return
        try:
            changes = self._changes()
        except HypervisorError as error:
            self._note_unreachable(error)
            return
        self._write(changes)
        self._failures = 0

    def _leads(self) -> bool:
        """Each write renews the lead: only what was not written for long must ask for it."""
        if monotonic() < self._sure_until:
            return True
        taken = Pool.objects.filter(pk=self._pool).take_lead(self._token, LEASE)
        self._sure_until = monotonic() + SURE if taken else 0.0
        return taken

    # -------------------------------------------------------------------------------------- in the lead

    def _changes(self) -> Changes:
        # Changes come in bursts: to write a few costs the same as to write all of a burst.
        self.stop.wait(max(0.0, self._wrote_at + BETWEEN - monotonic()))
        if self._watcher is None:
            self._watcher = self._watch(Pool.objects.get(pk=self._pool))
            self._log.info("following")
        self._is_waiting = True
        try:
            return self._watcher.changes(PATIENCE)
        finally:
            self._is_waiting = False

    def _write(self, changes: Changes) -> None:
        ours = Pool.objects.filter(pk=self._pool, follower_token=self._token)
        with transaction.atomic():
            renewed = ours.update(
                state=PoolState.CONNECTED,
                last_seen_at=Now(),
                # The lead was renewed before the pool was asked; now it is again.
                mirrored_at=F("followed_until") - LEASE,
                followed_until=Now() + LEASE,
            )
            if not renewed:
                raise LeadLost
            touched = mirror.apply(self._pool, changes)
            wake_about(touched.subjects, touched.operations)
            tell_on_commit(tenants_of_instances(touched.shown))
            if touched.kinds:
                self._wrote_at = monotonic()
            kinds = touched.kinds | ({"pool"} if self._trouble_may_stand else set())
            if kinds:
                transaction.on_commit(lambda: self._publish(self._pool, kinds))
            if self._trouble_may_stand:
                for code in ("pool-unreachable", "follower-broken"):
                    close_alarm(f"{code}:{self._pool}")
        self._trouble_may_stand = False
        self._sure_until = monotonic() + SURE

    # ------------------------------------------------------------------------------------- out of luck

    def _stand_by(self) -> None:
        if not Pool.objects.filter(pk=self._pool).exists():
            raise PoolForgotten(self._pool)
        self._forget_watcher()
        self._failures = 0
        self._pause(STANDBY)

    def _note_unreachable(self, error: HypervisorError) -> None:
        self._failures += 1
        self._trouble_may_stand = True
        self._log.warning("pool_unreachable", reason=error.reason, failures=self._failures)
        if error.reason == "credentials" or self._failures % 5 == 0:
            self._forget_watcher()  # the pool's address or password may have been changed meanwhile
        ours = Pool.objects.filter(pk=self._pool, follower_token=self._token)
        if ours.exclude(state=PoolState.UNREACHABLE).update(state=PoolState.UNREACHABLE):
            self._publish(self._pool, {"pool"})
        silent = Q(since__lte=Now() - ALARM_AFTER)
        pool = ours.annotate(since=Coalesce("last_seen_at", "created_at")).filter(silent).first()
        if pool is not None:
            open_alarm(
                f"pool-unreachable:{self._pool}",
                severity=Severity.CRITICAL,
                title=f"Pool {pool.name} does not answer",
                detail=f"{error} Its VMs may well be running: nothing is done to them meanwhile.",
            )

    def _tell_of_a_fault(self) -> None:
        try:
            open_alarm(
                f"follower-broken:{self._pool}",
                severity=Severity.CRITICAL,
                title="A pool's changes cannot be written down",
                detail="The follower's log says why. What pages show of this pool is out of date.",
            )
        except (OperationalError, InterfaceError):
            self._log.warning("alarm_not_opened")

    def _fail(self) -> None:
        self._failures += 1
        self._forget_watcher()

    def _forget_watcher(self) -> None:
        """What comes next begins with a full snapshot, and with asking for the lead.

        Meanwhile another one may have led, and told of trouble.
        """
        self._sure_until = 0.0
        self._trouble_may_stand = True
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _backoff(self) -> timedelta:
        longest = min(timedelta(seconds=2 ** min(self._failures, 10)), LONGEST_BACKOFF)
        return longest * random.uniform(0.5, 1)

    # ---------------------------------------------------------------------------------------- at the end

    def interrupt(self) -> None:
        """Stop soon; at once if only waiting. Called by a signal, in the thread that runs."""
        self.stop.set()
        if self._is_waiting:
            raise Stopped

    def _leave(self) -> None:
        """Let another one lead at once rather than when the lease is over."""
        self._forget_watcher()
        try:
            Pool.objects.filter(pk=self._pool).give_up_lead(self._token)
        except (OperationalError, InterfaceError) as error:
            self._log.warning("lead_not_given_up", error=str(error).strip())


class Interruptible(Protocol):
    def interrupt(self) -> None: ...


@contextmanager
def stopping_on_signals(running: Interruptible) -> Iterator[None]:
    """SIGTERM and SIGINT end what runs cleanly. In the main thread only."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        running.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(_: object) -> None:
    return None
