from __future__ import annotations

import http.client
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from deploy.lab.sessions import Account
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import client


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    reader = {"reader": Account("secret", "read-only")}
    with running_lab(2, tls=False, accounts=reader, wrong_password_delay=0.0) as running:
        yield running


def get(
    lab: RunningLab, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(lab.url).netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("path", "realm"),
    [
        ("/services", "get_services"),
        ("/host_backup", "get_host_backup"),
        ("/rrd_updates", "rrd_updates"),
        ("/vm_rrd", "vm_rrd"),
        ("/host_rrd", "host_rrd"),
        ("/console", "connect_console_ws"),
        ("/export?uuid=x", "get_export"),
        ("/audit_log", "get_audit_log"),
        ("/pool/xmldbdump", "get_pool_xml_db_sync"),
        ("/wlb_report", "get_wlb_report"),
    ],
)
def test_a_guarded_path_names_its_realm_to_strangers(
    lab: RunningLab, path: str, realm: str
) -> None:
    response, _ = get(lab, path)
    assert (response.status, response.reason) == (401, "Unauthorised")
    assert response.getheader("WWW-Authenticate") == f'Basic realm="{realm}"'


@pytest.mark.parametrize("path", ["/", "/nosuch", "/jsonrpc", "/import", "/vm?session_id=x"])
def test_other_paths_are_forbidden(lab: RunningLab, path: str) -> None:
    response, _ = get(lab, path)
    assert (response.status, response.reason) == (403, "Forbidden")


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "PATCH", "BOGUS"])
def test_unknown_methods_are_not_implemented(lab: RunningLab, method: str) -> None:
    response, _ = get(lab, "/", method)
    assert (response.status, response.reason) == (501, "Method not implemented")


def test_a_blob_that_is_not_named_is_a_bad_request_without_a_page(lab: RunningLab) -> None:
    response, body = get(lab, "/blob")
    assert (response.status, body) == (400, b"")
    assert response.getheader("content-length") is None


def test_long_headers_are_too_large(lab: RunningLab) -> None:
    assert get(lab, "/", **{"X-Long": "x" * 900})[0].status == 403
    assert get(lab, "/", **{"X-Long": "x" * 1100})[0].status == 431


def test_a_password_opens_what_its_role_may_and_leaves_no_session(lab: RunningLab) -> None:
    sessions = lab.do(lambda inner: inner.db.count("session"))
    root, reader = basic("root", lab.password), basic("reader", "secret")
    response, body = get(lab, "/pool/xmldbdump", Authorization=root)
    assert response.status == 200
    tables = {table.get("name") for table in ElementTree.fromstring(body).iter("table")}
    assert {"VM", "host", "pool"} <= tables
    assert get(lab, "/pool/xmldbdump", Authorization=reader)[0].status == 403
    assert get(lab, "/pool/xmldbdump", Authorization=basic("root", "no"))[0].status == 401
    assert lab.do(lambda inner: inner.db.count("session")) == sessions


def test_a_session_by_query_or_cookie_is_as_good(lab: RunningLab) -> None:
    with client(lab) as api:
        session = lab.do(lambda inner: inner.db.all("session")[-1].ref)
        assert api.session.get_uuid(session)
        assert get(lab, f"/rrd_updates?start=0&session_id={session}")[0].status == 200
        cookie = f"session_id={session}"
        assert get(lab, "/rrd_updates?start=0", Cookie=cookie)[0].status == 200
    assert get(lab, "/rrd_updates?start=0&session_id=OpaqueRef:x")[0].status == 401
