"""What the hosts' hypervisors measured of domains, kept for an hour, and asked for as data sources.

Names and units: XAPI.md 5.4. Between two looks a counter is taken to have grown evenly; where nothing was
measured there is no number.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from deploy.lab.classes.devices import linux_name
from deploy.lab.measurements import Source

EVERY = 5.0
"""Real seconds between two looks."""
KEPT = 720
"""Looks: an hour."""
STALE = 3 * EVERY

Sample = Mapping[str, float]


class History:
    """One domain's counters and gauges at some moments of lab time."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=KEPT)
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def add(self, at: float, sample: Sample) -> None:
        self._at.append(at)
        self._samples.append(sample)

    @property
    def last(self) -> Sample:
        return self._samples[-1] if self._samples else {}

    def gauge(self, name: str, t: float) -> float:
        """The value of the look after `t`, or of the one shortly before it."""
        place = bisect_left(self._at, t)
        if place == len(self._at):
            place -= 1
        if place < 0 or abs(self._at[place] - t) > STALE:
            return math.nan
        return float(self._samples[place].get(name, math.nan))

    def rate(self, name: str, t: float) -> float:
        """By how much a counter grew in a second, between the looks around `t`."""
        if len(self._at) < 2:
            return math.nan
        place = min(max(bisect_left(self._at, t), 1), len(self._at) - 1)
        if abs(self._at[place] - t) > STALE:
            return math.nan
        before, after = self._samples[place - 1], self._samples[place]
        grown = after.get(name, math.nan) - before.get(name, math.nan)
        seconds = self._at[place] - self._at[place - 1]
        # A counter that fell began anew: the domain is another.
        return grown / seconds if grown >= 0 and seconds > 0 else math.nan


def flat(domain: Mapping[str, Any]) -> dict[str, float]:
    """One domain of the agent's `stats`, by the names of data sources."""
    sample = {
        "cpu": domain["cpu_ns"] / 1e9,
        "memory": float(domain["memory"]),
        "vcpus": float(domain["vcpus"]),
    }
    for vif in domain["vifs"]:
        # What dom0's end took in is what the guest sent.
        for theirs, ours in (("rx_bytes", "tx"), ("tx_bytes", "rx")):
            if theirs in vif:
                sample[f"vif_{vif['device']}_{ours}"] = float(vif[theirs])
    for vbd in domain["vbds"]:
        name = linux_name(str(vbd["device"]))
        sample[f"vbd_{name}_read"] = float(vbd["read_bytes"])
        sample[f"vbd_{name}_write"] = float(vbd["write_bytes"])
    return sample


def sources(history: History) -> list[Source]:
    """What is known of a domain, as series."""
    vcpus = max(1, int(history.last.get("vcpus", 1)))

    def gauge(name: str) -> Callable[[float], float]:
        return lambda t: history.gauge(name, t)

    def rate(name: str, share: float = 1.0) -> Callable[[float], float]:
        return lambda t: history.rate(name, t) * share

    found = [
        Source("memory", gauge("memory"), "B", "Memory currently allocated to VM"),
        Source("memory_target", gauge("memory"), "B", "Target of VM balloon driver"),
    ]
    # The hypervisor tells of a domain's vCPUs together.
    found += [
        Source(
            f"cpu{n}", rate("cpu", 1 / vcpus), "(fraction)", f"CPU{n} usage", "DERIVE", maximum=1.0
        )
        for n in range(vcpus)
    ]
    words = {"tx": "transmitted", "rx": "received", "read": "read", "write": "written"}
    found += [
        Source(name, rate(name), "B/s", f"Bytes per second {words[way]}", "DERIVE")
        for name in history.last
        if (way := name.rpartition("_")[2]) in words
    ]
    return found
