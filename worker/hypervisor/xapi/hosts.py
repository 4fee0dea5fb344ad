"""Hosts and the pool itself: maintenance, death, a new master."""

import logging
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import XenAPI

from worker.hypervisor.port import Candidate, Gone, TaskHandle, UntranslatedFailure
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.errors import translate, translate_transport
from worker.hypervisor.xapi.probing import Credentials
from worker.hypervisor.xapi.records import NULL
from worker.hypervisor.xapi.transport import Channel, TransportError

log = logging.getLogger(__name__)

POOL_WIDE_SECONDS: Final = 60.0
_OLDER = ("MESSAGE_PARAMETER_COUNT_MISMATCH", "MESSAGE_METHOD_UNKNOWN")


class Hosts:
    def __init__(self, calls: Calls, credentials: Credentials) -> None:
        self._calls = calls
        self._credentials = credentials

    def disable_host(self, host: UUID) -> None:
        ref = self._calls.ref("host", host)
        try:
            self._calls.call("host.disable", ref, False)  # no auto_enable: stay so
        except UntranslatedFailure as failure:
            if failure.code not in _OLDER:
                raise
            self._calls.call("host.disable", ref)

    def enable_host(self, host: UUID) -> None:
        self._calls.on("host", host, lambda ref: self._calls.call("host.enable", ref))

    def declare_dead(self, host: UUID) -> TaskHandle:
        return self._calls.start("host.declare_dead", self._calls.ref("host", host))

    def host_answers(self, host: UUID, timeout: timedelta) -> bool:
        """Any answer of XAPI will do, also a refusal: it is asked of the host itself."""
        candidate = self._calls.session.candidates.of_host(host)
        if candidate is None:
            return False
        channel = self._channel(candidate)
        try:
            channel.json("pool.get_all", (NULL,), timeout.total_seconds())
        except XenAPI.Failure:
            return True
        except TransportError as error:
            log.info("host %s does not answer: %r", host, error)
            return False
        finally:
            channel.close()
        return True

    # the pool -----------------------------------------------------------------------------------

    def sync_database(self) -> None:
        self._calls.call("pool.sync_database", timeout=POOL_WIDE_SECONDS)

    def designate_new_master(self, host: UUID) -> None:
        ref = self._calls.ref("host", host)
        self._calls.call("pool.designate_new_master", ref, timeout=POOL_WIDE_SECONDS)

    def recover_slaves(self) -> tuple[UUID, ...]:
        refs = self._calls.call("pool.recover_slaves", timeout=POOL_WIDE_SECONDS)
        found = (self._calls.resolve("host", ref) for ref in refs)
        return tuple(host for host in found if host is not None)

    def emergency_transition_to_master(self, host: UUID) -> None:
        """Asked of the host itself, with a session of its own: it has no master to ask."""
        candidate = self._calls.session.candidates.of_host(host)
        if candidate is None:
            raise Gone("gone")
        channel = self._channel(candidate)
        try:
            self._emergency(channel)
        except XenAPI.Failure as failure:
            raise translate(failure) from failure
        except TransportError as error:
            raise translate_transport(error) from error
        finally:
            channel.close()

    def _emergency(self, channel: Channel) -> None:
        seconds = self._calls.session.timeout
        who = (self._credentials.username, self._credentials.password)
        session = channel.xml("session.slave_local_login_with_password", who, seconds)
        # No logout: xapi restarts now and forgets the session with everything else.
        channel.xml("pool.emergency_transition_to_master", (session,), seconds)

    def server_certificates(self) -> tuple[Candidate, ...]:
        found: dict[str, Any] = self._calls.all_records("host")
        return tuple(
            Candidate(
                raw["address"],
                self._calls.read("host.get_server_certificate", ref),
                UUID(raw["uuid"]),
            )
            for ref, raw in found.items()
        )

    def _channel(self, candidate: Candidate) -> Channel:
        endpoint = self._calls.session.candidates.endpoint(candidate)
        return Channel(endpoint, candidate.certificate)
