"""Sessions: login, roles, expiry and limits (FACTS 1; XAPI.md 1.1, 1.2, 1.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.schema import Message

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

IDLE_LIMIT = 24 * 3600.0
LAST_ACTIVE_GRAIN = 600.0
ROLES = (
    "read-only",
    "vm-operator",
    "vm-admin",
    "vm-power-admin",
    "pool-operator",
    "pool-admin",
)
"""Of accounts, the weakest first."""
PER_ORIGINATOR, WITHOUT_ORIGINATOR = 500, 400


@dataclass(frozen=True)
class Account:
    """Who may log in, with what role (`pool-admin` for root)."""

    password: str
    role: str = "pool-admin"


class Sessions:
    def __init__(self, lab: Lab, accounts: dict[str, Account]) -> None:
        self.lab = lab
        self.accounts = accounts
        self._active: dict[str, float] = {}

    def check(self, ref: str) -> Row:
        """The session of a reference. Raises SESSION_INVALID."""
        session = self.lab.db.find("session", ref)
        if session is None:
            raise XapiError("SESSION_INVALID", ref)
        now = self.lab.clock.now()
        if now - self._active.get(ref, 0.0) > LAST_ACTIVE_GRAIN:
            self._active[ref] = now
            self.lab.db.update(session, last_active=self.lab.clock.date())
        return session

    def check_role(self, session: Row, declared: Message) -> None:
        if session.is_local_superuser:
            return
        role = self.accounts[session.auth_user_name].role
        if role not in declared.roles:
            raise XapiError(
                "RBAC_PERMISSION_DENIED",
                declared.full_name,
                "No permission in user session. (Roles with this permission: "
                f"{', '.join(sorted(declared.roles))})",
            )

    def open(self, user: str, password: str, originator: str, machine: Machine) -> Row:
        """Check the password and make a session. Raises SESSION_AUTHENTICATION_FAILED."""
        account = self.accounts.get(user)
        if account is None or account.password != password:
            raise XapiError("SESSION_AUTHENTICATION_FAILED", user, "Authentication failure")
        now = self.lab.clock.date()
        session = self.lab.db.create(
            "session",
            this_host=machine.host.ref,
            last_active=now,
            validation_time=now,
            is_local_superuser=user == "root",
            auth_user_name=user,
            originator=originator,
        )
        self._active[session.ref] = self.lab.clock.now()
        return session

    def close(self, session: Row) -> None:
        self._active.pop(session.ref, None)
        self.lab.db.delete(session)
        self.lab.events.forget_session(session.ref)

    def collect(self) -> None:
        """The collector's pass (every 30 s): idle sessions, then the oldest above the limits."""
        now = self.lab.clock.now()
        groups: dict[tuple[str, str], list[Row]] = {}
        for session in self.lab.db.all("session"):
            if session.tasks:
                continue
            if now - session.last_active.timestamp() > IDLE_LIMIT:
                self.close(session)
                continue
            user = "" if session.is_local_superuser else session.auth_user_name
            groups.setdefault((user, session.originator), []).append(session)
        for (user, originator), members in groups.items():
            limit = PER_ORIGINATOR if user or originator else WITHOUT_ORIGINATOR
            members.sort(key=lambda session: session.last_active)
            for session in members[: max(0, len(members) - limit)]:
                self.close(session)

    def forget_all(self) -> None:
        """Sessions do not survive a restart of the toolstack."""
        for session in self.lab.db.all("session"):
            self.close(session)


@message("session.login_with_password")
async def login_with_password(
    call: Call, user: str, password: str, version: str, originator: str
) -> str:
    return await _login(call, user, password, originator)


@message("session.slave_local_login_with_password")
async def slave_local_login_with_password(call: Call, user: str, password: str) -> str:
    return await _login(call, user, password, "")


@message("session.slave_login")
def slave_login(call: Call, host: str, psecret: str) -> str:
    """Between hosts only: nobody else knows the pool's secret."""
    raise _not_a_host()


@message("session.slave_local_login")
def slave_local_login(call: Call, psecret: str) -> str:
    raise _not_a_host()


def _not_a_host() -> XapiError:
    return XapiError("SESSION_AUTHENTICATION_FAILED", "", "Pool credentials invalid")


async def _login(call: Call, user: str, password: str, originator: str) -> str:
    try:
        session = call.lab.sessions.open(user, password, originator, call.machine)
    except XapiError:
        await call.lab.clock.sleep(call.lab.config.wrong_password_delay)
        raise
    return session.ref


@message("session.logout", "session.local_logout")
def logout(call: Call) -> None:
    assert call.session is not None
    call.lab.sessions.close(call.session)


@message("session.get_all_subject_identifiers")
def get_all_subject_identifiers(call: Call) -> list[str]:
    return []


@message("session.change_password")
def change_password(call: Call, old: str, new: str) -> None:
    """Of the session's own account. Raises CHANGE_PASSWORD_REJECTED."""
    assert call.session is not None
    accounts, user = call.lab.sessions.accounts, call.session.auth_user_name
    if accounts[user].password != old or not new:
        raise XapiError("CHANGE_PASSWORD_REJECTED", "Authentication failure")
    accounts[user] = replace(accounts[user], password=new)


@message("session.logout_subject_identifier")
def logout_subject_identifier(call: Call, subject_identifier: str) -> None:
    """There are no subjects from a directory."""
