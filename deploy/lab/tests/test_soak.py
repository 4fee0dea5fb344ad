"""Fifty clients calling at random while things break, for SOAK_SECONDS (20; `make endurance`: 600).

SOAK_SEED chooses what they call. A run with the same seed is alike, not the same: how calls
interleave depends on the machine.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
from pathlib import Path

import pytest

from deploy.lab.lab import Config
from deploy.lab.server import start_on_a_free_port
from deploy.lab.tests.soak import Run, inconsistencies, soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
PARTS = 10
GROWTH = 1.15
"""The most that memory may grow from the first tenth of the run to its end."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def endure() -> tuple[Run, list[str], list[float]]:
    config = Config(
        hosts=4, rate=20.0, wrong_password_delay=0.1, memory_per_host=8 << 30, seed=SEED
    )
    server = await start_on_a_free_port(config, tls=False)
    lab = server.lab
    run, sizes = Run(lab), []
    try:
        for part in range(PARTS):
            seed = 100 * (SEED * PARTS + part)
            await soak(run, seconds=SECONDS / PARTS, seed=seed)
            gc.collect()
            sizes.append(float(resident_bytes()))
        # Whatever waits its turn gives up or gets it within two hours of lab time.
        lab.clock.set_rate(1.0)
        await lab.clock.advance(3 * 3600.0)
        gc.collect()
        sizes.append(float(resident_bytes()))
        broken = inconsistencies(lab)
        # A coordinator that starts again finds everything as it was.
        lab.coordinator.restart_toolstack()
        await lab.clock.advance(600.0)
        broken += [f"after a restart: {found}" for found in inconsistencies(lab)]
        for excerpt in run.trace.excerpts[:5]:
            print("What must not be, and what led to it:", excerpt, sep="\n")
        return run, broken, sizes
    finally:
        await server.stop()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_fifty_clients_calling_at_random_find_no_error_of_the_labs_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        run, broken, sizes = asyncio.run(endure())
    tally, arrivals = run.tally, run.trace.arrivals
    print("seed", SEED, "with", arrivals, "arrivals of VMs on machines")
    print("MiB resident:", *(f"{size / 2**20:.0f}" for size in sizes))
    print(tally.calls, "calls,", tally.dropped, "dropped;", tally.answers.most_common(40))
    assert not [record.getMessage() for record in caplog.records][:5]
    assert not tally.surprises[:5]
    assert not broken[:10], f"again with SOAK_SEED={SEED}"
    assert not run.trace.excerpts, f"printed above; again with SOAK_SEED={SEED}"
    assert tally.calls > 20 * SECONDS
    assert arrivals > 2 * SECONDS
    assert tally.answers["ok"] > 0.2 * tally.calls
    assert max(sizes[1:]) < GROWTH * sizes[0] + (64 << 20), sizes
