"""Logging in: at one host, or at all candidates at once to find out which of them is the master."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import XenAPI

from worker.hypervisor.port import Candidate, Unreachable
from worker.hypervisor.xapi.errors import code_of
from worker.hypervisor.xapi.transport import Channel, Endpoint, TransportError

log = logging.getLogger(__name__)

LOG_OUT_SECONDS = 5.0
_TELLING = ("credentials", "certificate", "still_booting", "not_master")


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str
    originator: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"


@dataclass(frozen=True, slots=True)
class Login:
    candidate: Candidate
    endpoint: Endpoint
    reference: str

    def __repr__(self) -> str:
        return f"Login({self.endpoint})"


class NotMaster(Exception):
    """The host is alive and says where the master is."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the master is {address}")
        self.address = address


def log_in_at(
    candidate: Candidate, endpoint: Endpoint, credentials: Credentials, timeout: float
) -> Login:
    """Raises NotMaster, Unreachable, TransportError. (session.login_with_password)"""
    channel = Channel(endpoint, candidate.certificate)
    params = (credentials.username, credentials.password, "2.21", credentials.originator)
    try:
        reference = channel.xml("session.login_with_password", params, timeout)
    except XenAPI.Failure as failure:
        raise _refused(failure) from failure
    finally:
        channel.close()
    return Login(candidate, endpoint, str(reference))


def _refused(failure: XenAPI.Failure) -> Exception:
    code = code_of(failure)
    if code == "HOST_IS_SLAVE":
        return NotMaster(str(failure.details[1]) if len(failure.details) > 1 else "")
    if code == "SESSION_AUTHENTICATION_FAILED":
        return Unreachable("credentials")
    return Unreachable("still_booting")


def log_out(login: Login) -> None:
    """End a session nobody needs. That it fails is no harm: idle ones are collected."""
    channel = Channel(login.endpoint, login.candidate.certificate)
    try:
        channel.xml("session.logout", (login.reference,), LOG_OUT_SECONDS)
    except (XenAPI.Failure, TransportError) as error:
        log.info("no logout at %s: %r", login.endpoint, error)
    finally:
        channel.close()


class Probe:
    """Ask every candidate at once; the first that lets us in is the master, the rest log out."""

    def __init__(
        self,
        candidates: Sequence[tuple[Candidate, Endpoint]],
        credentials: Credentials,
        seconds: float,
    ) -> None:
        self._candidates = candidates
        self._credentials = credentials
        self._seconds = seconds
        self._answers: queue.Queue[Login | str] = queue.Queue()
        self._lock = threading.Lock()
        self._winner: Login | None = None
        self.rejected_certificates: set[Endpoint] = set()

    def run(self) -> Login:
        """Raises Unreachable with the most telling reason."""
        for candidate, endpoint in self._candidates:
            threading.Thread(
                target=self._ask, args=(candidate, endpoint), daemon=True, name=f"probe {endpoint}"
            ).start()
        reasons: list[str] = []
        deadline = time.monotonic() + self._seconds
        while len(reasons) < len(self._candidates):
            try:
                answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(answer, Login):
                return answer
            reasons.append(answer)
        with self._lock:  # a login that arrives from now on is too late and logs itself out
            if self._winner is not None:
                return self._winner
            self._seconds = 0.0
        raise Unreachable(next((r for r in _TELLING if r in reasons), "no_answer"))

    def _ask(self, candidate: Candidate, endpoint: Endpoint) -> None:
        try:
            login = log_in_at(candidate, endpoint, self._credentials, self._seconds)
        except NotMaster:
            self._answers.put("not_master")
        except Unreachable as error:
            self._answers.put(error.reason)
        except TransportError as error:
            if error.reason == "certificate":
                self.rejected_certificates.add(endpoint)
            self._answers.put(error.reason)
        except Exception:
            log.exception("probe of %s failed", endpoint)
            self._answers.put("no_answer")
        else:
            self._arrive(login)

    def _arrive(self, login: Login) -> None:
        with self._lock:
            in_time = self._winner is None and self._seconds > 0
            if in_time:
                self._winner = login
        if in_time:
            self._answers.put(login)
            return
        if self._winner is not None and self._winner.endpoint != login.endpoint:
            log.warning(
                "two hosts say they are the master: %s (chosen) and %s",
                self._winner.endpoint,
                login.endpoint,
            )
        log_out(login)
