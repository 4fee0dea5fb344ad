from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from deploy.lab.certificates import fingerprint, make_certificate
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import client, refusal

LOGIN = (
    "<methodCall><methodName>session.login_with_password</methodName><params>"
    "<param><value>root</value></param><param><value>x</value></param></params></methodCall>"
)


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(2) as running:
        yield running


def shown(url: str) -> str:
    """The certificate that an address shows now, PEM."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return ssl.get_server_certificate((parts.hostname, parts.port), timeout=10)


def same(one: str, other: str) -> bool:
    return fingerprint(one, hashes.SHA256()) == fingerprint(other, hashes.SHA256())


def test_each_host_tells_the_certificate_that_it_shows(lab: RunningLab) -> None:
    with client(lab) as api:
        for name, url in zip(("h1", "h2"), lab.urls, strict=True):
            (host,) = api.host.get_by_name_label(name)
            told = api.host.get_server_certificate(host)
            assert same(told, shown(url))
            kinds = {
                record["type"]: record["fingerprint_sha256"]
                for record in api.Certificate.get_all_records().values()
                if record["host"] == host
            }
            assert kinds["host"] == fingerprint(told, hashes.SHA256())
            assert set(kinds) == {"host", "host_internal"}


def test_a_reset_certificate_is_shown_at_once_and_recorded(lab: RunningLab) -> None:
    with client(lab) as api:
        (host,) = api.host.get_by_name_label("h2")
        before = shown(lab.urls[1])
        api.host.reset_server_certificate(host)
        now = shown(lab.urls[1])
        assert not same(before, now)
        assert same(api.host.get_server_certificate(host), now)
        recorded = {r["fingerprint_sha256"] for r in api.Certificate.get_all_records().values()}
        assert fingerprint(now, hashes.SHA256()) in recorded
        assert fingerprint(before, hashes.SHA256()) not in recorded


def test_a_refreshed_certificate_is_the_pools_own_affair(lab: RunningLab) -> None:
    with client(lab) as api:
        (host,) = api.host.get_by_name_label("h2")
        before, records = shown(lab.urls[1]), api.Certificate.get_all_records()
        api.host.refresh_server_certificate(host)
        assert same(before, shown(lab.urls[1]))
        after = api.Certificate.get_all_records()
        (new,) = after.keys() - records.keys()
        assert after[new]["type"] == "host_internal"


def test_an_installed_certificate_has_to_fit_its_key(lab: RunningLab) -> None:
    key, certificate = make_certificate("h2.example", "127.0.0.1")
    other_key, _ = make_certificate("h2.example", "127.0.0.1")
    with client(lab) as api:
        (host,) = api.host.get_by_name_label("h2")

        def install(certificate: str, key: str, chain: str = "") -> None:
            api.host.install_server_certificate(host, certificate, key, chain)

        assert refusal(lambda: install(certificate, "x")) == ["SERVER_CERTIFICATE_KEY_INVALID"]
        assert refusal(lambda: install("x", key)) == ["SERVER_CERTIFICATE_INVALID"]
        mismatch = refusal(lambda: install(certificate, other_key))
        assert mismatch == ["SERVER_CERTIFICATE_KEY_MISMATCH"]
        install(certificate, key)
        assert same(certificate, shown(lab.urls[1]))


@pytest.mark.parametrize(
    ("name", "digest"), [("sha-256", hashes.SHA256()), ("sha-1", hashes.SHA1())]
)
def test_a_member_that_refuses_a_login_can_name_the_coordinators_certificate(
    lab: RunningLab, name: str, digest: hashes.HashAlgorithm
) -> None:
    parts = urlsplit(lab.urls[1])
    context = ssl.create_default_context(cadata=lab.certificates[1])
    context.check_hostname = False
    member = http.client.HTTPSConnection(parts.netloc, context=context, timeout=10)
    try:
        asked = {"x-xenapi-request-host-certificate-thumbprint": f"{name}:master"}
        member.request("POST", "/", LOGIN, asked)
        response = member.getresponse()
        assert b"HOST_IS_SLAVE" in response.read()
    finally:
        member.close()
    told = response.getheader("x-xenapi-response-host-certificate-thumbprint")
    coordinator = x509.load_pem_x509_certificate(lab.certificates[0].encode())
    assert told == coordinator.fingerprint(digest).hex(":").upper()
