"""Calls go out once, to the pinned host, and end in time."""

import socket
import threading
import time

import pytest
import XenAPI

from worker.hypervisor.xapi.transport import Channel, Endpoint, TransportError
from worker.tests.hypervisor.servers import Drip, Drop, Fault, ScriptedHost, identity


def channel_to(host: ScriptedHost, certificate: str | None = None) -> Channel:
    endpoint = Endpoint.parse(host.address)
    return Channel(endpoint, host.certificate if certificate is None else certificate)


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_call_reaches_the_host_with_the_pinned_certificate(host: ScriptedHost, wire: str) -> None:
    host.answers["VM.get_domid"] = lambda session, vm: f"{session} {vm}"
    channel = channel_to(host)
    assert getattr(channel, wire)("VM.get_domid", ("s", "v"), 5.0) == "s v"


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_another_certificate_is_refused_before_anything_is_said(
    host: ScriptedHost, wire: str
) -> None:
    channel = channel_to(host, identity("someone else")[0])
    with pytest.raises(TransportError) as error:
        getattr(channel, wire)("session.login_with_password", ("root", "secret"), 5.0)
    assert (error.value.reason, error.value.sent) == ("certificate", False)
    assert host.asked == []


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_dropped_connection_is_not_sent_again(host: ScriptedHost, wire: str) -> None:
    def drop(*_: object) -> None:
        raise Drop

    host.answers["VM.start"] = drop
    with pytest.raises(TransportError) as error:
        getattr(channel_to(host), wire)("VM.start", ("s", "v"), 5.0)
    assert error.value.sent
    assert host.count("VM.start") == 1


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_what_is_not_listening_was_surely_not_told(wire: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", unused.getsockname()[1])
    with pytest.raises(TransportError) as error:
        getattr(Channel(endpoint, identity("h1")[0]), wire)("VM.start", (), 5.0)
    assert not error.value.sent


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_slow_host_is_given_up_in_time(host: ScriptedHost, wire: str) -> None:
    release = threading.Event()
    host.answers["VM.start"] = lambda *_: release.wait(10)
    began = time.monotonic()
    with pytest.raises(TransportError) as error:
        getattr(channel_to(host), wire)("VM.start", (), 0.3)
    release.set()
    assert (error.value.reason, error.value.sent) == ("timeout", True)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_host_that_drips_is_slow_too(host: ScriptedHost, wire: str) -> None:
    def drip(*_: object) -> None:
        raise Drip

    host.answers["VM.start"] = drip
    began = time.monotonic()
    with pytest.raises(TransportError) as error:
        getattr(channel_to(host), wire)("VM.start", (), 0.4)
    assert error.value.reason == "timeout"
    assert time.monotonic() - began < 2


def test_a_connection_that_the_host_closed_meanwhile_is_replaced(host: ScriptedHost) -> None:
    channel = channel_to(host)
    host.answers["VM.get_all"] = lambda *_: []
    channel.json("VM.get_all", (), 5.0)
    pinned = channel._json._connection
    pinned.sock.shutdown(socket.SHUT_RDWR)  # as seen from here: readable, at its end
    assert channel.json("VM.get_all", (), 5.0) == []
    assert host.connections == 2


def test_a_connection_is_kept_for_the_next_call(host: ScriptedHost) -> None:
    channel = channel_to(host)
    host.answers["VM.get_all"] = lambda *_: []
    for _ in range(3):
        channel.json("VM.get_all", (), 5.0)
    assert host.connections == 1


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_refusal_carries_code_and_parameters(host: ScriptedHost, wire: str) -> None:
    def refuse(*_: object) -> None:
        raise Fault("VM_BAD_POWER_STATE", "OpaqueRef:v", "halted", "running")

    host.answers["VM.start"] = refuse
    with pytest.raises(XenAPI.Failure) as failure:
        getattr(channel_to(host), wire)("VM.start", (), 5.0)
    assert failure.value.details == ["VM_BAD_POWER_STATE", "OpaqueRef:v", "halted", "running"]


@pytest.mark.parametrize("wire", ["xml", "json"])
def test_a_call_longer_than_xapi_takes_is_not_sent(host: ScriptedHost, wire: str) -> None:
    with pytest.raises(ValueError, match="longer"):
        getattr(channel_to(host), wire)("VM.set_tags", ("x" * 400_000,), 5.0)
    assert host.asked == []


def test_the_binding_does_not_log_in_again_by_itself(host: ScriptedHost) -> None:
    def lost(*_: object) -> None:
        raise Fault("SESSION_INVALID", "OpaqueRef:s")

    host.answers["VM.start"] = lost
    with pytest.raises(XenAPI.Failure):
        channel_to(host).xml("VM.start", ("s",), 5.0)
    assert [method for method, _ in host.asked] == ["VM.start"]


@pytest.mark.parametrize(
    ("address", "netloc"),
    [
        ("10.0.0.1", "10.0.0.1:443"),
        ("10.0.0.1:18443", "10.0.0.1:18443"),
        ("xen1.example", "xen1.example:443"),
        ("fd00::1", "[fd00::1]:443"),
        ("[fd00::1]:8443", "[fd00::1]:8443"),
        ("https://10.0.0.1", "10.0.0.1:443"),
        ("https://[fd00::1]:8443", "[fd00::1]:8443"),
    ],
)
def test_an_address_is_read_in_every_usual_form(address: str, netloc: str) -> None:
    assert Endpoint.parse(address).netloc == netloc


@pytest.mark.parametrize("address", ["", "http://10.0.0.1", "root:secret@10.0.0.1", "host:port"])
def test_what_is_no_safe_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(address)
