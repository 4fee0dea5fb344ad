"""Registries behind an operator's proxy: the rules of where requests may go hold all the same."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.lab.registry.app import Registry
from worker.images import Images, Reach, Reference, Spool
from worker.images.errors import ProxyFailed, RegistryNotAllowed, RegistryNotTrusted
from worker.images.proxy import Proxy
from worker.images.tests.proxying import Proxy as Server
from worker.images.tests.proxying import proxying
from worker.images.ways import Ways

needs_tinyproxy = pytest.mark.skipif(
    not shutil.which("tinyproxy"),
    reason="tinyproxy is not installed (apt-get install tinyproxy-bin)",
)


@pytest.fixture
def server() -> Iterator[Server]:
    with proxying() as proxy:
        yield proxy


def proxied(tmp_path: Path, ca: Path, proxy: Proxy, *, allowed: tuple[str, ...]) -> Images:
    """Names lead to this machine where they are looked up."""
    networks = Reach.parse(allowed=allowed).allowed
    reach = Reach(networks, ca_file=str(ca), lookup=lambda host, port: ["127.0.0.1"])
    spool = tmp_path / "spool"
    spool.mkdir(exist_ok=True)
    return Images(Spool(spool), reach, ways=Ways(proxy=proxy))


def pull(ours: Images, reference: str) -> None:
    image = ours.resolve(Reference.parse(reference))
    with ours.spool.file() as target:
        ours.build(image, target)


def test_the_proxy_is_told_the_address_that_was_checked(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    registry, port = secure
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url), allowed=("127.0.0.0/8",))
    pull(ours, f"registry.example:{port}/web:1.0")
    assert set(server.asked) == {f"CONNECT 127.0.0.1:{port}"}
    assert {said["host"] for _, said in registry.seen} == {f"registry.example:{port}"}
    assert not any("proxy-authorization" in said for _, said in registry.seen)


def test_an_address_that_is_not_allowed_is_not_asked_for(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url), allowed=())
    with pytest.raises(RegistryNotAllowed):
        pull(ours, f"registry.example:{secure[1]}/web:1.0")
    assert server.asked == []


def test_a_redirect_does_not_lead_past_the_rule(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    registry, port = secure
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url), allowed=("127.0.0.1/32",))
    ours = replace(
        ours,
        reach=replace(
            ours.reach,
            lookup=lambda host, port: ["127.0.0.1" if host == "registry.example" else "10.9.9.9"],
        ),
    )
    registry.faults.add("blobs", "redirect", status=307, to="https://inner.example/blob")
    with pytest.raises(RegistryNotAllowed):
        pull(ours, f"registry.example:{port}/web:1.0")
    assert set(server.asked) == {f"CONNECT 127.0.0.1:{port}"}


def test_names_are_left_to_a_proxy_that_resolves(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    _, port = secure
    server.leads_to[f"registry.example:{port}"] = ("127.0.0.1", port)
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url, resolves=True), allowed=())
    pull(ours, f"registry.example:{port}/web:1.0")
    assert set(server.asked) == {f"CONNECT registry.example:{port}"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "127.1",
        "2130706433.",
        "0x7f000001",
        "127.0.0.0x1",
        "localhost",
        "a.localhost.",
        "metadata.google.internal",
        "printer.local",
    ],
)
def test_addresses_are_still_checked_when_the_proxy_resolves(
    tmp_path: Path, certificate: Path, server: Server, host: str
) -> None:
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url, resolves=True), allowed=())
    reach = ours.reach
    with pytest.raises(RegistryNotAllowed):
        reach.check_literal(host.strip("[]"))
    if not host.endswith("."):
        with pytest.raises(RegistryNotAllowed):
            ours.resolve(Reference.parse(f"{host}:5000/web:1.0"))
    assert server.asked == []


def test_public_and_allowed_addresses_may_be_named_to_a_proxy_that_resolves() -> None:
    reach = Reach.parse(allowed=["10.1.0.0/16"])
    for host in ("1.1.1.1", "10.1.2.3", "registry.example", "2606:4700:4700::1111"):
        reach.check_literal(host)


def test_the_proxy_does_not_vouch_for_the_registry(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    _, port = secure
    server.leads_to[f"other.example:{port}"] = ("127.0.0.1", port)
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url, resolves=True), allowed=())
    with pytest.raises(RegistryNotTrusted):
        pull(ours, f"other.example:{port}/web:1.0")


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad"]
)
def test_a_proxy_that_says_no_is_named(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server, status: str
) -> None:
    server.status = status
    ours = proxied(tmp_path, certificate, Proxy.parse(server.url), allowed=("127.0.0.0/8",))
    with pytest.raises(ProxyFailed):
        pull(ours, f"registry.example:{secure[1]}/web:1.0")


def test_a_proxy_that_is_not_there_is_named(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int]
) -> None:
    dead = Proxy.parse("http://127.0.0.1:1")
    ours = proxied(tmp_path, certificate, dead, allowed=("127.0.0.0/8",))
    with pytest.raises(ProxyFailed):
        pull(ours, f"registry.example:{secure[1]}/web:1.0")


def test_the_proxys_password_is_for_the_proxy(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server
) -> None:
    registry, port = secure
    server.password = "us:p@ss"
    url = server.url.replace("://", "://us:p%40ss@")
    ours = proxied(tmp_path, certificate, Proxy.parse(url), allowed=("127.0.0.0/8",))
    pull(ours, f"registry.example:{port}/web:1.0")
    assert not any("proxy-authorization" in said for _, said in registry.seen)
    assert "p@ss" not in repr(ours)
    assert "p%40ss" not in repr(ours)


@pytest.mark.parametrize("word", ["registry.example", ".example", "example", "127.0.0.0/8", "*"])
def test_what_no_proxy_names_is_asked_directly(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], server: Server, word: str
) -> None:
    proxy = Proxy.parse(server.url, no_proxy=[word])
    ours = proxied(tmp_path, certificate, proxy, allowed=("127.0.0.0/8",))
    pull(ours, f"registry.example:{secure[1]}/web:1.0")
    assert server.asked == []


@pytest.mark.parametrize("word", ["gistry.example", "xample", "10.0.0.0/8", "registry.example.org"])
def test_what_it_does_not_name_is_not(word: str) -> None:
    assert Proxy.parse("http://p", no_proxy=[word]).is_for("registry.example", "127.0.0.1")


def test_plain_registries_are_near_and_asked_directly(
    images: Images, web: Reference, server: Server
) -> None:
    pull(replace(images, ways=Ways(proxy=Proxy.parse(server.url))), str(web))
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    ["", "p:3128", "https://p:3128", "http://p:x", "http://p/x", "http://", "http://s3cret@[::"],
)
def test_a_proxy_that_makes_no_sense_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Proxy.parse(url)
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def tinyproxy(tmp_path: Path) -> Iterator[str]:
    """Debian's, in the foreground."""
    with proxying() as probe:  # a port that is free as soon as this one is closed
        port = int(probe.url.rpartition(":")[2])
    file = tmp_path / "tinyproxy.conf"
    file.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 30\nLogLevel Info\nMaxClients 20\n")
    process = subprocess.Popen(
        ["tinyproxy", "-d", "-c", str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if re.search(r"Accepting connections|Starting main loop", line):
                break
        else:
            pytest.fail("tinyproxy did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with process.stdout:
            process.wait(10)


@needs_tinyproxy
def test_debians_tinyproxy_leads_there(
    tmp_path: Path, certificate: Path, secure: tuple[Registry, int], tinyproxy: str
) -> None:
    ours = proxied(tmp_path, certificate, Proxy.parse(tinyproxy), allowed=("127.0.0.0/8",))
    pull(ours, f"registry.example:{secure[1]}/web:1.0")
    assert len(secure[0].seen) >= 4
