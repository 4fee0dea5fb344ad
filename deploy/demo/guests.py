"""A few VMs in a fresh lab, as somebody else's programs would have made them.

They make the pool's page worth looking at before there is anything of ours on it. Made once, over
plain XAPI and the certificate pinned at enrolment, and only in the demonstration's own lab: never
in a pool that the operator named.
"""

import ssl
import xmlrpc.client
from http.client import HTTPConnection
from typing import Any, cast

from deploy.lab.samples import GIB, MIB, vbd_record, vdi_record, vif_record, vm_record

GUESTS = (("web-1", 1024, 2), ("web-2", 1024, 2), ("database", 4096, 4), ("queue", 512, 1))
"""Name, MiB of memory, vCPUs."""
TIMEOUT = 20.0
DISK = 8 * GIB


class PinnedTransport(xmlrpc.client.SafeTransport):
    """Trusts one certificate, waits so long and no longer, sends nothing twice."""

    def __init__(self, pem: str) -> None:
        context = ssl.create_default_context(cadata=pem)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        super().__init__(context=context)

    def make_connection(self, host: Any) -> Any:
        connection = cast(HTTPConnection, super().make_connection(host))
        connection.timeout = TIMEOUT
        return connection

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        return self.single_request(host, handler, request_body, verbose)


class Refused(Exception):
    """What XAPI answered instead of a value."""


class Xapi:
    def __init__(self, url: str, pem: str, username: str, password: str) -> None:
        self._proxy = xmlrpc.client.ServerProxy(url, transport=PinnedTransport(pem))
        self._session: tuple[str, ...] = ()
        try:
            session = self.call(
                "session.login_with_password", username, password, "2.21", "bulkhead-demo"
            )
        except BaseException:
            self.close()
            raise
        self._session = (session,)

    def close(self) -> None:
        """Hang up; the session ends by itself."""
        self._proxy("close")()

    def call(self, method: str, *arguments: Any) -> Any:
        answer = cast(dict[str, Any], getattr(self._proxy, method)(*self._session, *arguments))
        if answer["Status"] != "Success":
            raise Refused(answer["ErrorDescription"])
        return answer["Value"]


def ensure_guests(xapi: Xapi) -> None:
    """Make and start those that are not there; a pool that has any VM of its own is left alone."""
    ours = 'field "is_control_domain" = "false" and field "is_a_template" = "false"'
    if xapi.call("VM.get_all_where", ours):
        return
    network = xapi.call("network.get_all_where", 'field "bridge" = "xenbr0"')[0]
    pool = xapi.call("pool.get_all")[0]
    storage = xapi.call("pool.get_default_SR", pool)
    for name, memory, vcpus in GUESTS:
        vm = xapi.call("VM.create", vm_record(name, memory=memory * MIB, vcpus=vcpus))
        vdi = xapi.call("VDI.create", vdi_record(f"{name} disk", storage, size=DISK))
        xapi.call("VBD.create", vbd_record(vm, vdi))
        xapi.call("VIF.create", vif_record(vm, network))
        # Nobody waits: the page shows them start.
        xapi.call("Async.VM.start", vm, False, False)
