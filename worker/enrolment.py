"""Taking a pool under our care: see its certificate, log in, write down how to reach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from django.db import transaction

from hosting import keyring
from hosting.fleet.models import Pool
from worker.connections import candidates_to_store
from worker.follower import Follower
from worker.hypervisor import xapi
from worker.hypervisor.port import (
    Candidate,
    HostCertificate,
    Hypervisor,
    HypervisorError,
    PoolConnection,
    Refused,
    Unreachable,
    UntranslatedFailure,
)


class EnrolmentRefused(Exception):
    """The pool was not enrolled, and nothing was changed. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`mirrored`: its objects are known now; False when a follower of it runs already."""

    pool: Pool
    is_new: bool
    hosts: int
    mirrored: bool


Connect = Callable[[PoolConnection], Hypervisor]


def see_certificate(url: str) -> HostCertificate:
    """What the server at `url` shows, not yet trusted. Nothing secret is sent.

    Raises EnrolmentRefused.
    """
    try:
        return xapi.read_certificate(url)
    except ValueError as error:
        raise EnrolmentRefused(f'{url!r} is no address of a pool: "https://10.0.0.1"') from error
    except Unreachable as error:
        raise EnrolmentRefused(f"nobody answers at {url} ({error.reason})") from error


def confirm(shown: HostCertificate, expected: str) -> None:
    """Raises EnrolmentRefused unless the certificate has the expected SHA-256 fingerprint."""
    if _digits(shown.fingerprint) != _digits(expected):
        raise EnrolmentRefused(
            "the certificate is not the expected one: somebody may be in between\n"
            f"  expected  {expected}\n"
            f"  shown     {shown.fingerprint}"
        )


def _digits(fingerprint: str) -> str:
    return fingerprint.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")


def enrol(
    *,
    name: str,
    url: str,
    username: str,
    password: str,
    certificate: HostCertificate,
    connect: Connect = xapi.connect,
) -> Enrolled:
    """Log in at `url`, whose certificate is trusted now, and write the pool and its objects down.

    Enrolling the same pool again (its own uuid tells) renews its address, credentials and
    certificates. Raises EnrolmentRefused.
    """
    first = Candidate(urlsplit(url).netloc, certificate.pem)
    hypervisor = connect(PoolConnection(name, url, username, password, (first,)))
    try:
        uuid, candidates = _identify(hypervisor, url, username)
        pool, is_new = _write_down(uuid, name, url, username, password, candidates)
        mirrored = Follower(pool.pk, lambda _pool: hypervisor.watcher()).once()
    except HypervisorError as error:
        raise EnrolmentRefused(f"the pool stopped answering: {error}") from error
    finally:
        hypervisor.close()
    return Enrolled(pool, is_new, len(candidates), mirrored)


_SAYING = {
    "credentials": "refused the login: user name or password is wrong",
    "not_master": "is not the pool's master: give the address of that",
    "still_booting": "is still starting: try again in a minute",
}


def _identify(
    hypervisor: Hypervisor, url: str, username: str
) -> tuple[UUID, tuple[Candidate, ...]]:
    try:
        return hypervisor.pool().uuid, hypervisor.server_certificates()
    except Refused as error:
        raise EnrolmentRefused(f"{username!r} may not enrol {url}: {error}") from error
    except Unreachable as error:
        why = _SAYING.get(error.reason, "answers, but not as a XAPI pool does")
        raise EnrolmentRefused(f"{url} {why} ({error.reason})") from error
    except UntranslatedFailure as error:
        raise EnrolmentRefused(f"{url} is no XAPI server, or a strange one: {error}") from error


@transaction.atomic
def _write_down(
    uuid: UUID,
    name: str,
    url: str,
    username: str,
    password: str,
    candidates: tuple[Candidate, ...],
) -> tuple[Pool, bool]:
    if Pool.objects.filter(name=name).exclude(pk=uuid).exists():
        raise EnrolmentRefused(f"another pool is called {name!r} already: choose another name")
    return Pool.objects.update_or_create(
        pk=uuid,
        defaults={
            "name": name,
            "url": url,
            "username": username,
            "sealed_password": keyring.seal(password),
            "candidates": candidates_to_store(candidates),
        },
    )
