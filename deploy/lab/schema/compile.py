"""Compile the published XAPI datamodel into the compact form the lab serves.

    python deploy/lab/schema/compile.py ../shared/xapi/datamodel.json

Only facts are kept (names, types, qualifiers, defaults, roles, arities); descriptions stay with
their publisher. Types, role sets and defaults repeat a great deal, so each is stored once in a
table and referred to by its index.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("datamodel.json")


class Interned:
    """Values stored once, in order of first use."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True)
        if key not in self._index:
            self._index[key] = len(self.values)
            self.values.append(value)
        return self._index[key]


def compile_datamodel(source: dict[str, Any]) -> dict[str, Any]:
    """Return the compact datamodel of a published one."""
    types, roles = Interned(), Interned()
    return {
        "source": source["source"],
        "api_version": source["api_version"],
        "classes": [_class(cls, types, roles) for cls in source["classes"]],
        "types": types.values,
        "roles": roles.values,
        "enums": {
            name: [member["name"] for member in members]
            for name, members in source["enums"].items()
        },
        "relations": [[relation["one"], relation["many"]] for relation in source["relations"]],
        "errors": {error["name"]: error["params"] for error in source["errors"]},
        "undescribed_errors": source["error_codes_without_description"],
        "emergency_calls": source["emergency_calls"],
        "alert_priorities": {
            alert["name"]: alert["priority"] for alert in source["alert_message_priorities"]
        },
    }


def _class(cls: dict[str, Any], types: Interned, roles: Interned) -> dict[str, Any]:
    return {
        "name": cls["name"],
        "events": cls["gen_events"],
        "in_database": cls["in_database"],
        "persist": cls["persist"],
        "fields": [
            {
                "name": field["name"],
                "type": types(field["ty"]),
                "qualifier": field["qualifier"],
                **({"default": field["default"]} if field["has_default"] else {}),
                **({"internal": True} if field["internal_only"] else {}),
                "setters": roles(field["setter_roles"]),
                "getters": roles(field["getter_roles"]),
                **({"keys": field["map_keys_roles"]} if field["map_keys_roles"] else {}),
            }
            for field in cls["fields"]
        ],
        "messages": [_message(message, types, roles) for message in cls["messages"]],
    }


def _message(message: dict[str, Any], types: Interned, roles: Interned) -> dict[str, Any]:
    lifecycle = message.get("lifecycle") or {}
    return {
        "name": message["name"],
        "kind": message["kind"],
        **({"async": True} if message["async"] else {}),
        **({} if message["session"] else {"session": False}),
        **({"removed": True} if lifecycle.get("state") == "Removed_s" else {}),
        **({"pool_internal": True} if message["pool_internal"] else {}),
        "params": [
            [param["name"], types(param["ty"])]
            if param["required"]
            else [param["name"], types(param["ty"]), param["default"]]
            for param in message["params"]
        ],
        **({"result": types(message["result"]["ty"])} if message["result"] else {}),
        "roles": roles(message["roles"]),
        **({"errors": message["errors"]} if message["errors"] else {}),
    }


def main() -> None:
    source = json.loads(Path(sys.argv[1]).read_text())
    compact = json.dumps(compile_datamodel(source), separators=(",", ":"))
    OUTPUT.write_text(compact.replace('{"name":"', '\n{"name":"') + "\n")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
