"""Roles, and subjects of a directory, which the lab's pool is not joined to.

Facts: xen-api xapi_role.ml, xapi_subject.ml, xapi_auth.ml.
"""

from __future__ import annotations

from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.generic import constructor_values

# --- roles: a static table, which does not take expressions


@message("role.get_all_records_where")
def get_all_records_where(call: Call, expression: str) -> dict[str, Any]:
    """Two expressions are known by their text; with any other the whole table is answered."""
    rows = call.db.all("role")
    if expression == "subroles<>[]":
        rows = [row for row in rows if row.subroles]
    elif expression == "subroles=[]":
        rows = [row for row in rows if not row.subroles]
    return {row.ref: row.record for row in rows}


def permissions_of(call: Call, role: Row) -> list[Row]:
    """The permissions that a role has; a permission has itself."""
    return call.db.rows("role", role.subroles) if role.subroles else [role]


@message("role.get_permissions")
def get_permissions(call: Call, role: Row) -> list[str]:
    return [row.ref for row in permissions_of(call, role)]


@message("role.get_permissions_name_label")
def get_permissions_name_label(call: Call, role: Row) -> list[str]:
    return [row.name_label for row in permissions_of(call, role)]


@message("role.get_by_permission")
def get_by_permission(call: Call, permission: Row) -> list[str]:
    return _having(call, permission)


@message("role.get_by_permission_name_label")
def get_by_permission_name_label(call: Call, label: str) -> list[str]:
    found = call.db.by_label("role", label)
    return _having(call, found[0]) if found else []


def _having(call: Call, permission: Row) -> list[str]:
    return [role.ref for role in call.db.all("role") if permission.ref in role.subroles]


# --- subjects


def _without_directory() -> XapiError:
    return XapiError("AUTH_IS_DISABLED")


@message("subject.create")
def create(call: Call, record: dict[str, Any]) -> str:
    """The directory is asked who it is: there is none. Raises SUBJECT_ALREADY_EXISTS first."""
    values = constructor_values(call.message, record)
    identifiers = {row.subject_identifier for row in call.db.all("subject")}
    if values.get("subject_identifier", "") in identifiers:
        raise XapiError("SUBJECT_ALREADY_EXISTS")
    raise _without_directory()


@message("subject.add_to_roles")
def add_to_roles(call: Call, subject: Row, role: str) -> None:
    if call.db.find("role", role) is None:
        raise XapiError("ROLE_NOT_FOUND")
    if role in subject.roles:
        raise XapiError("ROLE_ALREADY_EXISTS")
    call.db.update(subject, roles=[*subject.roles, role])


@message("subject.remove_from_roles")
def remove_from_roles(call: Call, subject: Row, role: str) -> None:
    if role not in subject.roles:
        raise XapiError("ROLE_NOT_FOUND")
    call.db.update(subject, roles=[ref for ref in subject.roles if ref != role])


@message("subject.get_permissions_name_label")
def get_subjects_permissions(call: Call, subject: Row) -> list[str]:
    roles = call.db.rows("role", subject.roles)
    return sorted({row.name_label for role in roles for row in permissions_of(call, role)})


@message(
    "auth.get_subject_identifier",
    "auth.get_subject_information_from_identifier",
    "auth.get_group_membership",
)
def ask_directory(call: Call, who: str) -> Any:
    raise _without_directory()
