"""The role table: a permission for each message, the keys that have one of their own, the roles.

The daemon's is a static table of 2,235 rows (recorded: records_fresh_pool).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from deploy.lab.schema import SCHEMA

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
ROLES = {
    "pool-admin": "The Pool Administrator role can do anything",
    "pool-operator": "The Pool Operator role can do anything but access Dom0 and manage subjects and roles",
    "vm-power-admin": "The VM Power Administrator role has full access to VM and template management",
    "vm-admin": "The VM Administrator role can manage VMs and templates",
    "vm-operator": "The VM Operator role can use VMs and interact with VM consoles",
    "client-cert": "The role for clients that log in with a certificate",
    "read-only": "The Read-Only role can log in with basic read-only access",
}
_OF_HTTP = (
    "http/connect_console",
    "http/connect_console/host_console",
    "http/get_host_backup",
    "http/put_host_restore",
    "http/get_pool_xml_db_sync",
    "http/put_pool_xml_db_sync",
)


def make_roles(lab: Lab) -> None:
    of_keys = [
        f"{cls.name}.add_to_{field.name}/key:{key}".lower()
        for cls in SCHEMA.classes.values()
        for field in cls.fields.values()
        for key in field.key_roles
    ]
    permissions = {}
    for name in sorted([*SCHEMA.messages, *of_keys, *_OF_HTTP]):
        row = lab.db.create(
            "role",
            uuid=str(uuid.uuid5(_NAMESPACE, name)),
            name_label=name,
            name_description="A basic permission",
            is_internal=True,
        )
        permissions[name] = row.ref
    for role, description in ROLES.items():
        lab.db.create(
            "role",
            uuid=str(uuid.uuid5(_NAMESPACE, role)),
            name_label=role,
            name_description=description,
            subroles=[
                permissions[name]
                for name, message in SCHEMA.messages.items()
                if role in message.roles
            ],
            is_internal=False,
        )
