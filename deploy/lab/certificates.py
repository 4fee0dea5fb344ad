"""Self-signed certificates, one a host, as a freshly installed host has."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

VALIDITY = timedelta(days=3650)


def make_certificate(name: str, address: str) -> tuple[str, str]:
    """A new key and certificate, both PEM, for a host of this name and IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALIDITY)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def fingerprint(certificate: str, algorithm: hashes.HashAlgorithm) -> str:
    """Of a PEM certificate, as XAPI writes it: capital hexadecimal pairs joined by colons."""
    digest = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(algorithm)
    return digest.hex(":").upper()


def record(lab: Lab, host: Row, kind: str, certificate: str) -> Row:
    """Enter a host's certificate of this kind (`host` or `host_internal`) in place of the last."""
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    sha256 = fingerprint(certificate, hashes.SHA256())
    for old in lab.db.rows("Certificate", host.certificates):
        if old.type == kind:
            if old.fingerprint_sha256 == sha256:
                return old
            lab.db.delete(old)
    return lab.db.create(
        "Certificate",
        type=kind,
        host=host.ref,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        fingerprint=sha256,
        fingerprint_sha256=sha256,
        fingerprint_sha1=fingerprint(certificate, hashes.SHA1()),
    )


def load_chain(context: ssl.SSLContext, key: str, certificate: str) -> None:
    """Serve this certificate from the next handshake on."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "host.pem")
        path.touch(0o600)
        path.write_text(key + certificate)
        context.load_cert_chain(path)


def server_context(key: str, certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(context, key, certificate)
    return context
