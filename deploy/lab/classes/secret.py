"""Secrets: values that other objects name by uuid (xen-api xapi_secret.ml)."""

from __future__ import annotations

from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError


@message("secret.introduce")
def introduce(call: Call, uuid: str, value: str, other_config: dict[str, str]) -> str:
    """A secret whose uuid is given. Raises DB_UNIQUENESS_CONSTRAINT_VIOLATION."""
    if uuid in call.db.tables["secret"].by_uuid:
        raise XapiError("DB_UNIQUENESS_CONSTRAINT_VIOLATION", "secret", "uuid", uuid)
    return call.db.create("secret", uuid=uuid, value=value, other_config=other_config or {}).ref
