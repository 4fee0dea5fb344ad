"""A few VMs in a fresh lab, as somebody else's programs would have made them.

They make the pool's page worth looking at before there is anything of ours on it. Made once, over
plain XAPI and the certificate pinned at enrolment, and only in the demonstration's own lab: never
in a pool that the operator named.
"""

import ssl
import xmlrpc.client
from http.client import HTTPConnection
from typing import Any, cast

GUESTS = (("web-1", 1024, 2), ("web-2", 1024, 2), ("database", 4096, 4), ("queue", 512, 1))
"""Name, MiB of memory, vCPUs."""
TIMEOUT = 20.0
MIB = 1 << 20


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
        vm = xapi.call("VM.create", _vm(name, memory, vcpus))
        disk = xapi.call("VDI.create", _disk(name, storage))
        xapi.call("VBD.create", _vbd(vm, disk))
        xapi.call("VIF.create", _vif(vm, network))
        # Nobody waits: the page shows them start.
        xapi.call("Async.VM.start", vm, False, False)


def _vm(name: str, memory: int, vcpus: int) -> dict[str, Any]:
    sizes = ("static_min", "dynamic_min", "dynamic_max", "static_max")
    return {
        "name_label": name,
        "name_description": "",
        "user_version": "1",
        "is_a_template": False,
        "affinity": "OpaqueRef:NULL",
        **{f"memory_{size}": str(memory * MIB) for size in sizes},
        "VCPUs_params": {},
        "VCPUs_max": str(vcpus),
        "VCPUs_at_startup": str(vcpus),
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        **{
            f"PV_{part}": ""
            for part in (
                "bootloader",
                "kernel",
                "ramdisk",
                "args",
                "bootloader_args",
                "legacy_args",
            )
        },
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "c"},
        "platform": {"acpi": "1", "apic": "true", "pae": "true", "vga": "std", "viridian": "false"},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
    }


def _disk(name: str, storage: str) -> dict[str, Any]:
    return {
        "name_label": f"{name} disk",
        "name_description": "",
        "SR": storage,
        "virtual_size": str(8 << 30),
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }


_NO_QOS: dict[str, Any] = {
    "other_config": {},
    "qos_algorithm_type": "",
    "qos_algorithm_params": {},
}


def _vbd(vm: str, disk: str) -> dict[str, Any]:
    return {
        "VM": vm,
        "VDI": disk,
        "userdevice": "0",
        "bootable": True,
        "mode": "RW",
        "type": "Disk",
        "empty": False,
        **_NO_QOS,
    }


def _vif(vm: str, network: str) -> dict[str, Any]:
    return {"VM": vm, "network": network, "device": "0", "MAC": "", "MTU": "1500", **_NO_QOS}
