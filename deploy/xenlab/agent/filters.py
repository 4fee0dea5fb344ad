"""What a locked interface may send, as nftables rules, set by libnftables without starting a process.

A chain hooks into a device's ingress, before its bridge sees a frame, and goes away with the device. All
that no rule accepts is dropped: other source addresses, ARP and neighbour messages that claim another's
address, router advertisements, redirects, VLAN tags, other protocols. No address may be claimed, not even
to ask whether it is free (ARP with sender 0.0.0.0 is let through: it claims nothing).
"""

from __future__ import annotations

import ctypes
import ipaddress
from collections.abc import Iterable

from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.spec import Vif

LIBRARY = "libnftables.so.1"
# Where lab and agents listen; guests may answer what is asked from there, and open nothing.
MANAGEMENT = "10.77.0.1-10.77.0.63"


def rules_of(device: str, vif: Vif) -> str:
    """Rules for an interface, in place of those it has."""
    if vif.disabled:
        return _ingress(device, [], [])
    return _locking(device, vif) if vif.locked else clearing(device)


def _locking(device: str, vif: Vif) -> str:
    own4 = _set(vif.ipv4)
    own6 = _set((link_local(vif.mac), *vif.ipv6))
    rules = [f"ether saddr != {vif.mac} drop"]
    if vif.ipv4:
        rules += [
            f"ether type arp arp saddr ether {vif.mac} arp saddr ip {_set((*vif.ipv4, '0.0.0.0'))}"
            " accept",
            f"ether type ip ip saddr {own4} accept",
        ]
    rules += [
        "ether type ip6 jump six",
    ]
    six = [
        # A neighbour message cut into fragments could not be looked into (RFC 6980).
        "meta l4proto icmpv6 exthdr frag exists drop",
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        # Asking whether an address of one's own is free: the target is at byte 8 of the message.
        f"icmpv6 type nd-neighbor-solicit ip6 saddr :: @th,64,128 {_numbers(own6)} accept",
        f"icmpv6 type nd-neighbor-advert ip6 saddr {own6} @th,64,128 {_numbers(own6)} accept",
        "icmpv6 type nd-neighbor-advert drop",
        "ip6 saddr :: icmpv6 type mld2-listener-report accept",
        f"ip6 saddr {own6} accept",
    ]
    return _ingress(device, rules, six)


def _ingress(device: str, rules: list[str], six: list[str]) -> str:
    return (
        f"{clearing(device)}table netdev {_table(device)} {{\n"
        f" chain six {{\n{_lines(six)} }}\n"
        f" chain in {{\n  type filter hook ingress device {device} priority 0; policy drop;\n"
        f"{_lines(rules)} }}\n}}\n"
    )


def clearing(device: str) -> str:
    """Rules that remove a device's rules, whether there are any or not."""
    table = _table(device)
    return f"add table netdev {table}\ndelete table netdev {table}\n"


def shielding() -> str:
    """Rules that keep every guest, locked or not, from the lab's own machinery."""
    refused = [
        # On the trunk a guest's own tag would put its frames into another network.
        'iifname "vif*" ether type vlan drop',
        'iifname "vif*" ether type 0x88a8 drop',
        'iifname "vif*" ip daddr ' + MANAGEMENT + " tcp flags & (syn | ack) == syn drop",
        'iifname "vif*" ether type arp arp saddr ip ' + MANAGEMENT + " drop",
        'iifname "vif*" ip saddr ' + MANAGEMENT + " drop",
    ]
    chains = "".join(
        f" chain {hook} {{\n  type filter hook {hook} priority 0; policy accept;\n"
        f"{_lines(refused)} }}\n"
        for hook in ("input", "forward")
    )
    return (
        f"add table bridge shield\ndelete table bridge shield\ntable bridge shield {{\n{chains}}}\n"
    )


def link_local(mac: str) -> str:
    """The link-local address that follows from a MAC address (RFC 4291, appendix A)."""
    parts = [int(part, 16) for part in mac.split(":")]
    parts[0] ^= 2
    bytes_ = [*parts[:3], 0xFF, 0xFE, *parts[3:]]
    groups = [f"{bytes_[i] << 8 | bytes_[i + 1]:x}" for i in range(0, 8, 2)]
    return f"fe80::{':'.join(groups)}"


class Filters:
    """libnftables, holding the kernel's rules."""

    def __init__(self) -> None:
        self._nft = ctypes.CDLL(LIBRARY)
        self._nft.nft_ctx_new.restype = ctypes.c_void_p
        self._nft.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._nft.nft_ctx_new(0))
        self._nft.nft_ctx_buffer_error(self._context)

    def apply(self, rules: str) -> None:
        """All of the rules or none; raises AgentError `filter_failed`."""
        if self._nft.nft_run_cmd_from_buffer(self._context, rules.encode()) != 0:
            said = self._nft.nft_ctx_get_error_buffer(self._context) or b""
            raise AgentError("filter_failed", f"nftables: {said.decode(errors='replace').strip()}")


def _table(device: str) -> str:
    return "lock_" + device.replace(".", "_")


def _set(items: Iterable[str]) -> str:
    return "{ " + ", ".join(dict.fromkeys(items)) + " }"


def _numbers(addresses: str) -> str:
    """A set of IPv6 addresses as numbers, as raw payload is compared."""
    items = addresses.strip("{ }").split(", ")
    return _set(hex(int(ipaddress.IPv6Address(item))) for item in items)


def _lines(rules: list[str]) -> str:
    return "".join(f"  {rule}\n" for rule in rules)
