"""One session per pool, shared by threads and, through a store, by processes; it finds the master.

* Logging in happens once, under a lock. SESSION_INVALID logs in again and repeats the call, which was
  refused before it was executed: once per call.
* HOST_IS_SLAVE is followed, but only to an address on the pool's own list of candidates.
* A transport error (never an error of XAPI) puts the master under suspicion: the next call first makes
  sure that it still answers, else asks all candidates at once.
* The list is replaced, not merged, from the pool's hosts at each login, so ejected hosts drop out.
* At most `CALLS_IN_FLIGHT` ordinary calls run at once in this process; long polls are not counted.

A call is sent a second time only if the first provably was not executed, or if it only reads.

Sources: xapi_session.ml; limits in db_gc_util.ml (500 sessions per originator, hence one constant
originator per pool); connection rules as in xen-api's fail-over.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias
from uuid import UUID

import XenAPI

from worker.hypervisor.port import (
    Busy,
    Candidate,
    CandidatesChanged,
    PoolConnection,
    Unreachable,
)
from worker.hypervisor.xapi.candidates import Candidates
from worker.hypervisor.xapi.errors import code_of, translate, translate_transport
from worker.hypervisor.xapi.probing import (
    Credentials,
    Login,
    NotMaster,
    Probe,
    log_in_at,
    log_out,
)
from worker.hypervisor.xapi.transport import Channel, Endpoint, TransportError

log = logging.getLogger(__name__)

CALLS_IN_FLIGHT = 16
"""Per pool and process. xapi serves many more, but queues what it cannot do (XAPI limits: 100 queueing
threads, 200 tasks), and a queue on our side can be looked at."""

PROBE_SECONDS = 20.0
CHECK_SECONDS = 5.0
CERTIFICATES_AT_ONCE = 16

Wire: TypeAlias = Literal["xml", "json"]
_LOST = ("SESSION_INVALID", "HOST_IS_SLAVE")


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session reference and the address that gave it. As secret as the password."""

    address: str
    reference: str

    def __repr__(self) -> str:
        return f"StoredSession({self.address!r})"


class SessionStore(Protocol):
    """Where processes find each other's session. `lock()` is held while one of them logs in.

    `is_shared`: others may use the session, so closing ours must not log it out.
    """

    is_shared: bool

    def load(self) -> StoredSession | None: ...
    def save(self, session: StoredSession | None) -> None: ...
    def lock(self) -> AbstractContextManager[object]: ...


class MemorySessionStore:
    """For one process alone."""

    is_shared = False

    def __init__(self) -> None:
        self._session: StoredSession | None = None
        self._lock = threading.Lock()

    def load(self) -> StoredSession | None:
        return self._session

    def save(self, session: StoredSession | None) -> None:
        self._session = session

    def lock(self) -> AbstractContextManager[object]:
        return self._lock


class PoolSession:
    """Calls on the pool's master. Thread-safe; each thread has its own connections."""

    def __init__(
        self,
        connection: PoolConnection,
        *,
        candidates_changed: CandidatesChanged | None = None,
        store: SessionStore | None = None,
    ) -> None:
        self.candidates = Candidates(connection, candidates_changed)
        self.timeout = connection.call_timeout.total_seconds()
        self.epoch = 0  # counts the sessions used: a watcher that sees it move starts over
        self.logins = 0
        self.sessions_lost = 0
        self.credentials = Credentials(
            connection.username, connection.password, f"bulkhead/{connection.pool}"
        )
        self._store = store if store is not None else MemorySessionStore()
        self._lock = threading.Lock()
        self._current: Login | None = None
        self._suspect = False
        self._hint: str | None = None
        self._last: Candidate | None = None
        self._slots = threading.BoundedSemaphore(CALLS_IN_FLIGHT)
        self._local = _Channels()

    # calls --------------------------------------------------------------------------------------

    def call(self, method: str, *args: object, timeout: float | None = None) -> Any:
        """A call over XML-RPC; integers must be given as str. Raises only what the port names."""
        with self._slot():
            return self._call("xml", method, args, timeout or self.timeout)

    def read(self, method: str, *args: object, timeout: float | None = None) -> Any:
        """A call over JSON-RPC, for records: typed and cheap to parse."""
        with self._slot():
            return self._call("json", method, args, timeout or self.timeout)

    def long_poll(self, method: str, *args: object, timeout: float) -> Any:
        """A call that lasts by design (event.from); does not take one of the slots."""
        return self._call("json", method, args, timeout)

    def reference(self) -> str:
        """The session's reference, for the HTTP handlers. Never to be logged or shown."""
        return self._session().reference

    def master(self) -> Candidate:
        """The host that calls go to now."""
        return self._session().candidate

    def connect(self) -> int:
        """Be logged in; the epoch of the session that calls use now."""
        self._session()
        return self.epoch

    def close(self) -> None:
        with self._lock:
            current, self._current = self._current, None
            if current is not None and not self._store.is_shared:
                self._store.save(None)
                log_out(current)
        self._local.close()

    # one call -----------------------------------------------------------------------------------

    def _call(self, wire: Wire, method: str, args: Sequence[object], timeout: float) -> Any:
        try:
            return self._once(wire, method, args, timeout)
        except _Again:
            pass
        try:
            return self._once(wire, method, args, timeout)
        except _Again as again:
            raise again.error from again.__cause__

    def _once(self, wire: Wire, method: str, args: Sequence[object], timeout: float) -> Any:
        login = self._session()
        try:
            channel = self._local.get(login.endpoint, login.candidate.certificate)
            send = channel.xml if wire == "xml" else channel.json
            return send(method, (login.reference, *args), timeout)
        except XenAPI.Failure as failure:
            if code_of(failure) not in _LOST:
                raise translate(failure) from failure
            self._lost(login, failure)
            raise _Again(Unreachable("session_lost")) from failure
        except TransportError as error:
            self._suspected(login)
            unreachable = translate_transport(error)
            if not error.sent or (error.reason != "timeout" and _only_reads(method)):
                raise _Again(unreachable) from error
            raise unreachable from error

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self.timeout):
            raise Busy("too_many_calls")
        try:
            yield
        finally:
            self._slots.release()

    # the session --------------------------------------------------------------------------------

    def _session(self) -> Login:
        with self._lock:
            if self._current is not None and self._suspect and not self._still_answers():
                self._drop(self._current)
            if self._current is None:
                with self._store.lock():
                    self._current = self._adopt_or_log_in()
                self.epoch += 1
                self._suspect = False
                self._last = self._current.candidate
            return self._current

    def _lost(self, login: Login, failure: XenAPI.Failure) -> None:
        with self._lock:
            if self._current is not login:
                return  # another thread has seen it already
            self.sessions_lost += 1
            log.warning("session lost at %s", login.endpoint)
            if code_of(failure) == "HOST_IS_SLAVE" and len(failure.details) > 1:
                self._hint = str(failure.details[1])
            self._drop(login)

    def _drop(self, login: Login) -> None:
        self._current = None
        with self._store.lock():
            stored = self._store.load()
            if stored is not None and stored.reference == login.reference:
                self._store.save(None)

    def _suspected(self, login: Login) -> None:
        with self._lock:
            if self._current is login:
                self._suspect = True

    def _still_answers(self) -> bool:
        login = self._current
        assert login is not None
        channel = Channel(login.endpoint, login.candidate.certificate)
        try:
            channel.json("session.get_this_host", (login.reference, login.reference), CHECK_SECONDS)
        except (XenAPI.Failure, TransportError) as error:
            log.warning("master at %s does not answer: %r", login.endpoint, error)
            return False
        finally:
            channel.close()
        self._suspect = False
        return True

    def _adopt_or_log_in(self) -> Login:
        stored = self._store.load()
        if stored is not None:
            candidate = self.candidates.find(stored.address)
            if candidate is not None:
                endpoint = self.candidates.endpoint(candidate)
                return Login(candidate, endpoint, stored.reference)
        login, rejected = self._find_master()
        self.logins += 1
        self._store.save(StoredSession(login.endpoint.netloc, login.reference))
        self._learn_candidates(login, rejected)
        return login

    def _find_master(self) -> tuple[Login, frozenset[Endpoint]]:
        """Where we were told to look, else where the URL points, else everywhere at once."""
        hint, self._hint = self._hint, None
        told = self._candidate_at(hint) if hint else None
        if not self._suspect:
            login = self._try(told or self._last or self.candidates.first())
            if login is not None:
                return login, frozenset()
        everyone = [(c, self.candidates.endpoint(c)) for c in self.candidates.all()]
        probe = Probe(everyone, self.credentials, PROBE_SECONDS)
        return probe.run(), frozenset(probe.rejected_certificates)

    def _try(self, candidate: Candidate) -> Login | None:
        for _ in range(2):
            try:
                return self._log_in_at(candidate)
            except NotMaster as slave:
                master = self._candidate_at(slave.address)
                if master is None:
                    return None
                candidate = master
            except TransportError as error:
                log.warning("no login at %s: %r", candidate.address, error)
                return None
            except Unreachable as error:
                if error.reason == "credentials":
                    raise
                return None
        return None

    def _log_in_at(self, candidate: Candidate) -> Login:
        endpoint = self.candidates.endpoint(candidate)
        return log_in_at(candidate, endpoint, self.credentials, self.timeout)

    def _candidate_at(self, address: str) -> Candidate | None:
        try:
            candidate = self.candidates.find(address)
        except ValueError:
            candidate = None
        if candidate is None:
            log.warning("not followed, no host of the pool that we know: %s", address)
        return candidate

    # candidates ---------------------------------------------------------------------------------

    def _learn_candidates(self, login: Login, rejected: frozenset[Endpoint]) -> None:
        """Replace the list by the pool's hosts. Failing here does not fail the login."""
        try:
            channel = self._local.get(login.endpoint, login.candidate.certificate)
            hosts = channel.json("host.get_all_records", (login.reference,), self.timeout)
        except (XenAPI.Failure, TransportError) as error:
            log.warning("hosts not read at login: %r", error)
            return
        # Side by side: of a host that is dead the master answers nothing until the time is over.
        with ThreadPoolExecutor(CERTIFICATES_AT_ONCE, "certificates") as threads:
            found = threads.map(
                lambda ref: self._candidate_of(login, ref, hosts[ref], rejected), hosts
            )
            self.candidates.replace(candidate for candidate in found if candidate is not None)

    def _candidate_of(
        self, login: Login, ref: str, host: dict[str, Any], rejected: frozenset[Endpoint]
    ) -> Candidate | None:
        uuid, address = UUID(host["uuid"]), str(host["address"])
        if not address:
            return None
        known = self.candidates.known(uuid, address)
        if known is not None and self.candidates.endpoint(known) not in rejected:
            return known
        channel = Channel(login.endpoint, login.candidate.certificate)
        try:
            certificate = channel.json(
                "host.get_server_certificate", (login.reference, ref), CHECK_SECONDS
            )
        except (XenAPI.Failure, TransportError) as error:
            log.warning("certificate of host %s not read: %r", uuid, error)
            return known
        finally:
            channel.close()
        return Candidate(known.address if known else address, str(certificate), uuid)


class _Again(Exception):
    """The call was not executed, or only reads: it may be sent once more."""

    def __init__(self, error: Unreachable) -> None:
        super().__init__(error)
        self.error = error


def _only_reads(method: str) -> bool:
    name = method.partition(".")[2]
    return name.startswith(("get_", "compute_", "assert_")) or name == "from"


class _Channels(threading.local):
    """Each thread's connections. A forked child must not speak on its parent's."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._open: dict[Endpoint, tuple[str, Channel]] = {}

    def get(self, endpoint: Endpoint, certificate: str) -> Channel:
        if self._pid != os.getpid():
            self._pid, self._open = os.getpid(), {}
        known = self._open.get(endpoint)
        if known is not None:
            if known[0] == certificate:
                return known[1]
            known[1].close()
        channel = Channel(endpoint, certificate)
        self._open[endpoint] = (certificate, channel)
        return channel

    def close(self) -> None:
        for _, channel in self._open.values():
            channel.close()
        self._open.clear()
