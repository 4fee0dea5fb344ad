"""The XAPI driver. `connect` makes a `port.Hypervisor`; `read_certificate` is for enrolment."""

from worker.hypervisor.xapi.driver import connect
from worker.hypervisor.xapi.enrol import fingerprint, is_same_fingerprint, read_certificate
from worker.hypervisor.xapi.session import MemorySessionStore, SessionStore, StoredSession

__all__ = [
    "MemorySessionStore",
    "SessionStore",
    "StoredSession",
    "connect",
    "fingerprint",
    "is_same_fingerprint",
    "read_certificate",
]
