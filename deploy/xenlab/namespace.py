"""The lab's network namespace: made, removed, and entered for the length of making a socket."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.plan import BRIDGE, GATEWAY, LabPlan

CLONE_NEWNET = 0x40000000
SHORT = 15.0
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(namespace: str) -> Path:
    """Where iproute2 keeps a namespace."""
    return Path("/run/netns") / namespace


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread's new sockets belong to the namespace; they stay there afterwards.

    Do not wait for anything inside: a coroutine of the same thread would be in the namespace too.
    """
    try:
        there = os.open(path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as missing:
        raise XenlabError("lab_down", f"there is no network namespace {namespace}") from missing
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)
        os.close(there)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def raise_network(plan: LabPlan) -> None:
    """Makes what is missing of the namespace, its bridge and the hosts' taps."""
    ip = ["ip", "-n", plan.namespace]
    if not path_of(plan.namespace).exists():
        run(["ip", "netns", "add", plan.namespace], timeout=SHORT)
    links = run([*ip, "-o", "link"], timeout=SHORT)
    if f": {BRIDGE}:" not in links:
        run([*ip, "link", "set", "lo", "up"], timeout=SHORT)
        run([*ip, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"], timeout=SHORT)
        run([*ip, "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE], timeout=SHORT)
        run([*ip, "link", "set", BRIDGE, "up"], timeout=SHORT)
    for host in plan.hosts:
        if f": {host.tap}:" not in links:
            run([*ip, "tuntap", "add", host.tap, "mode", "tap"], timeout=SHORT)
        run([*ip, "link", "set", host.tap, "master", BRIDGE, "up"], timeout=SHORT)


def lower_network(plan: LabPlan) -> None:
    """Removes the namespace and with it every device in it."""
    if path_of(plan.namespace).exists():
        run(["ip", "netns", "del", plan.namespace], timeout=SHORT)


def set_cable(plan: LabPlan, tap: str, *, plugged: bool) -> None:
    """Plugs or pulls a host's network cable."""
    state = "up" if plugged else "down"
    run(["ip", "-n", plan.namespace, "link", "set", tap, state], timeout=SHORT)


def end_connections(plan: LabPlan, address: str) -> None:
    """Ends this machine's TCP connections with a host: a dead one says no goodbye."""
    run(["ip", "netns", "exec", plan.namespace, "ss", "-K", "dst", address], timeout=SHORT)


def connections(plan: LabPlan, address: str) -> int:
    """How many TCP connections this machine holds with a host."""
    shown = run(
        ["ip", "netns", "exec", plan.namespace, "ss", "-Htn", "dst", address], timeout=SHORT
    )
    return len(shown.splitlines())
