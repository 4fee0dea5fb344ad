"""Paths that a host knows besides its calls: who may ask for them, and what the lab has of them.

Realms as recorded (http_basics); xen-api datamodel.ml, http_actions. What the lab does not have
behind a path answers 501 to those who may ask.
"""

from __future__ import annotations

from datetime import datetime
from xml.sax.saxutils import quoteattr

from deploy.lab.http.access import Refused, authenticate
from deploy.lab.http.bare import send_bare
from deploy.lab.http.server import (
    Handler,
    Request,
    Response,
    handler,
    not_implemented,
)
from deploy.lab.wire import format_date

# (method, path) → the realm that is named, and the least role
_GUARDED = {
    ("GET", "/services"): ("get_services", "read-only"),
    ("GET", "/host_backup"): ("get_host_backup", "pool-admin"),
    ("GET", "/export"): ("get_export", "vm-admin"),
    ("GET", "/export_metadata"): ("get_export_metadata", "vm-admin"),
    ("GET", "/audit_log"): ("get_audit_log", "read-only"),
    ("GET", "/wlb_report"): ("get_wlb_report", "read-only"),
    ("GET", "/wlb_diagnostics"): ("get_wlb_diagnostics", "read-only"),
    ("GET", "/vncsnapshot"): ("get_vncsnapshot", "vm-operator"),
    ("GET", "/system-status"): ("get_system_status", "pool-operator"),
    ("GET", "/host_logs_download"): ("get_host_logs_download", "pool-operator"),
    ("PUT", "/import"): ("put_import", "vm-admin"),
    ("PUT", "/import_metadata"): ("put_import_metadata", "vm-admin"),
    ("PUT", "/host_restore"): ("put_host_restore", "pool-admin"),
    ("PUT", "/pool/xmldbdump"): ("put_pool_xml_db_sync", "pool-admin"),
}


def _guarded(realm: str, role: str) -> Handler:
    async def serve(request: Request) -> Response | None:
        try:
            with await authenticate(request, realm, role):
                return not_implemented(request.method)
        except Refused as refused:
            return refused.response

    return serve


for (_method, _path), (_realm, _role) in _GUARDED.items():
    handler(_method, _path)(_guarded(_realm, _role))


@handler("GET", "/blob")
async def blob(request: Request) -> Response | None:
    """The lab keeps no blobs: asking without a reference is a bad request, else there is none."""
    known = "ref" in request.query or "uuid" in request.query
    await send_bare(request, "404 Not Found" if known else "400 Bad Request")
    return None


@handler("GET", "/pool/xmldbdump")
async def database_dump(request: Request) -> Response | None:
    """The whole database, as the coordinator gives it to its members."""
    try:
        with await authenticate(request, "get_pool_xml_db_sync", "pool-admin"):
            body = _dump(request).encode()
    except Refused as refused:
        return refused.response
    return Response("200 OK", body, "text/xml")


def _dump(request: Request) -> str:
    db = request.lab.db
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?><database><manifest>'
        '<pair key="schema_major_vsn" value="5"/><pair key="schema_minor_vsn" value="798"/>'
        f'<pair key="generation_count" value="{db.generation}"/></manifest>'
    ]
    for name, table in db.tables.items():
        parts.append(f'<table name="{name}">')
        for ref, row in table.rows.items():
            fields = " ".join(
                f"{field}={quoteattr(_text(value))}" for field, value in row.fields.items()
            )
            parts.append(f'<row ref="{ref}" {fields}/>')
        parts.append("</table>")
    return "".join(parts) + "</database>"


def _text(value: object) -> str:
    """A field as the daemon's database writes it: S-expressions for sets and maps."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "(" + " ".join(f"'{member}'" for member in value) + ")"
        case dict():
            return "(" + " ".join(f"('{key}' '{item}')" for key, item in value.items()) + ")"
        case datetime():
            return format_date(value)
        case _:
            return str(value)
