"""What a registry's 401 asks for, and the answer: Basic, or a token from its token server.

Docker Registry v2 token authentication: distribution's docs/spec/auth/token.
"""

import base64
import json
import urllib.request
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

from worker.images.deadline import Deadline
from worker.images.errors import PullRefused, RegistryBusy, RegistryFailed
from worker.images.http import Fetcher, Response
from worker.images.records import Credentials

LONGEST_TOKEN_ANSWER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate line: `scheme` in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def read_challenge(line: str) -> Challenge:
    scheme, _, rest = line.strip().partition(" ")
    parameters = {}
    for one in urllib.request.parse_http_list(rest):
        name, equals, value = one.partition("=")
        if equals:
            parameters[name.strip().lower()] = value.strip().strip('"')
    return Challenge(scheme.lower(), parameters)


def basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


class Authority:
    """Makes the Authorization header for one repository at one registry."""

    def __init__(self, fetcher: Fetcher, repository: str, credentials: Credentials | None) -> None:
        self._fetcher = fetcher
        self._repository = repository
        self._credentials = credentials

    def answer(self, response: Response, deadline: Deadline) -> str:
        """The header that a 401 asks for. Raises PullRefused when we have none to give."""
        asked = [read_challenge(line) for line in response.headers("WWW-Authenticate")]
        by_scheme = {challenge.scheme: challenge for challenge in asked}
        if "bearer" in by_scheme:
            return self._token(by_scheme["bearer"], response.origin.scheme, deadline)
        if "basic" in by_scheme and self._credentials:
            return basic(self._credentials)
        raise PullRefused

    def _token(self, challenge: Challenge, scheme: str, deadline: Deadline) -> str:
        realm = challenge.parameters.get("realm", "")
        if scheme == "https" and not realm.startswith("https://"):
            # The password would go in the clear where the registry itself does not want that.
            raise PullRefused("The registry's token server does not use TLS.")
        query = {"scope": f"repository:{self._repository}:pull"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        mine = basic(self._credentials) if self._credentials else ""
        with self._fetcher.get(url, authorization=mine, redirects=0, deadline=deadline) as got:
            _check(got)
            return f"Bearer {_read_token(got.body(LONGEST_TOKEN_ANSWER))}"


def _check(response: Response) -> None:
    if response.status in (400, 401, 403, 404):
        raise PullRefused
    if response.status == 429:
        raise RegistryBusy(host=response.origin.host)
    if response.status != 200:
        raise RegistryFailed(
            "The registry's token server has a fault.",
            host=response.origin.host,
            status=response.status,
        )


def _read_token(body: bytes) -> str:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryFailed("The registry's token server gave no token.")
    return token
