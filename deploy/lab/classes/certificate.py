"""Certificates of hosts: the one shown to clients, and the one used within the pool.

Facts: XAPI datamodel host.*_server_certificate; errors of xen-api gencertlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from deploy.lab.certificates import make_certificate, record
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.wire import format_date

if TYPE_CHECKING:
    from deploy.lab.machine import Machine


@message("host.get_server_certificate")
async def get_server_certificate(call: Call, host: Row) -> str:
    """The certificate shown to clients, PEM."""
    return (await forward(call, host.ref)).certificate


@message("host.refresh_server_certificate")
async def refresh_server_certificate(call: Call, host: Row) -> None:
    """A new certificate for talk within the pool; what clients see stays."""
    machine = await forward(call, host.ref)
    _, certificate = make_certificate(f"{machine.name}-internal", machine.address)
    record(call.lab, host, "host_internal", certificate)


@message("host.reset_server_certificate")
async def reset_server_certificate(call: Call, host: Row) -> None:
    """A new self-signed certificate for clients: those who pinned the last one are locked out."""
    _reset(await forward(call, host.ref))


@message("host.emergency_reset_server_certificate")
def emergency_reset_server_certificate(call: Call) -> None:
    _reset(call.machine)


def _reset(machine: Machine) -> None:
    machine.use_certificate(*make_certificate(machine.name, machine.address))


@message("host.install_server_certificate")
async def install_server_certificate(
    call: Call, host: Row, certificate: str, private_key: str, chain: str
) -> None:
    """Raises SERVER_CERTIFICATE_KEY_INVALID, SERVER_CERTIFICATE_INVALID,
    SERVER_CERTIFICATE_KEY_MISMATCH, SERVER_CERTIFICATE_NOT_VALID_YET, SERVER_CERTIFICATE_EXPIRED,
    SERVER_CERTIFICATE_CHAIN_INVALID."""
    machine = await forward(call, host.ref)
    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError):
        raise XapiError("SERVER_CERTIFICATE_KEY_INVALID") from None
    try:
        leaf = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        raise XapiError("SERVER_CERTIFICATE_INVALID") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise XapiError("SERVER_CERTIFICATE_KEY_MISMATCH")
    _check_dates(call, leaf)
    try:
        if chain:
            x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        raise XapiError("SERVER_CERTIFICATE_CHAIN_INVALID") from None
    machine.use_certificate(private_key, f"{certificate.rstrip()}\n{chain}")


def _check_dates(call: Call, leaf: x509.Certificate) -> None:
    now = call.lab.clock.date()
    if leaf.not_valid_before_utc > now:
        since = format_date(leaf.not_valid_before_utc)
        raise XapiError("SERVER_CERTIFICATE_NOT_VALID_YET", format_date(now), since)
    if leaf.not_valid_after_utc < now:
        until = format_date(leaf.not_valid_after_utc)
        raise XapiError("SERVER_CERTIFICATE_EXPIRED", format_date(now), until)
