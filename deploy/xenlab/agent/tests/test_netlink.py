from __future__ import annotations

from deploy.xenlab.agent import netlink


def test_attributes_are_read_as_they_were_written() -> None:
    data = netlink.attribute(1, b"odd") + netlink.nested(2, netlink.attribute(3, b"four"))
    (first, value), (second, inner) = netlink.attributes(data)
    assert (first, value) == (1, b"odd")
    assert second == 2
    assert list(netlink.attributes(inner)) == [(3, b"four")]


def test_a_length_of_nothing_does_not_loop() -> None:
    assert list(netlink.attributes(b"\0" * 8)) == []


def test_the_kernel_refuses_an_unknown_family() -> None:
    try:
        netlink.ask("no-such-family", 1)
    except FileNotFoundError:
        return
    raise AssertionError("the kernel knows no-such-family")
