"""First contact with a host: see its certificate before anything secret is said."""

import hashlib
import socket
import ssl

from worker.hypervisor.port import HostCertificate
from worker.hypervisor.xapi.errors import translate_transport
from worker.hypervisor.xapi.transport import Endpoint, failed


def read_certificate(url: str, timeout: float = 10.0) -> HostCertificate:
    """The certificate that `url` shows, unverified: its fingerprint is for a person to confirm.

    Raises ValueError for what is no https URL, Unreachable when nobody answers.
    """
    endpoint = Endpoint.parse(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; the person is the verification
    try:
        address = (endpoint.host, endpoint.port)
        with (
            socket.create_connection(address, timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as sock,
        ):
            der = sock.getpeercert(binary_form=True)
    except OSError as error:
        raise translate_transport(failed(error, sent=False)) from error
    if der is None:
        raise ValueError("a TLS server shows a certificate")
    return HostCertificate(ssl.DER_cert_to_PEM_cert(der), fingerprint_of(der))


def fingerprint(pem: str) -> str:
    """SHA-256 of a PEM certificate, as people compare it: "AB:CD:…"."""
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(pem))


def fingerprint_of(der: bytes) -> str:
    return hashlib.sha256(der).digest().hex(":").upper()


def is_same_fingerprint(one: str, other: str) -> bool:
    """However they are written: with or without colons, in either case."""
    return _bare(one) == _bare(other) != ""


def _bare(fingerprint: str) -> str:
    return fingerprint.replace(":", "").strip().lower()
