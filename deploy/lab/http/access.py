"""Who may use an HTTP handler: a session by cookie or query, or a user and password (Basic).

Order and answers as xen-api's xapi_http.ml; recorded: http_basics, http_rrd.
"""

from __future__ import annotations

import base64
import binascii

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.http.server import Request, Response, forbidden, unauthorised

ROLES = (
    "read-only",
    "vm-operator",
    "vm-admin",
    "vm-power-admin",
    "pool-operator",
    "pool-admin",
)


class Refused(Exception):
    """The request is answered with `response` and nothing else happens."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


async def authenticate(request: Request, realm: str, role: str = "read-only") -> Access:
    """The caller's session. Raises Refused: 401 with the realm, or 403 when the role is too low."""
    credentials = {**request.query, **request.cookies}
    temporary = False
    if "session_id" in credentials:
        session = _session(request, credentials["session_id"], realm)
    else:
        session = await _log_in(request, realm)
        temporary = True
    access = Access(request, session, temporary=temporary)
    if not has_role(request, session, role):
        access.close()
        raise Refused(forbidden())
    return access


class Access:
    """A session for as long as a request lasts; one made for it alone is closed after it."""

    def __init__(self, request: Request, session: Row, *, temporary: bool) -> None:
        self._request = request
        self._temporary = temporary
        self.session = session

    def __enter__(self) -> Row:
        return self.session

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        lab = self._request.lab
        if self._temporary and lab.db.find("session", self.session.ref) is not None:
            lab.sessions.close(self.session)


def _session(request: Request, ref: str, realm: str) -> Row:
    try:
        return request.lab.sessions.check(ref)
    except XapiError:
        raise Refused(unauthorised(realm)) from None


async def _log_in(request: Request, realm: str) -> Row:
    user, password = _basic(request)
    if user is None:
        raise Refused(unauthorised(realm))
    lab = request.lab
    try:
        return lab.sessions.open(user, password, "", request.machine)
    except XapiError:
        await lab.clock.sleep(lab.config.wrong_password_delay)
        raise Refused(unauthorised(realm)) from None


def _basic(request: Request) -> tuple[str | None, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    return user, password


def has_role(request: Request, session: Row, role: str) -> bool:
    if session.is_local_superuser:
        return True
    held = request.lab.sessions.accounts[session.auth_user_name].role
    return held in ROLES and ROLES.index(held) >= ROLES.index(role)
