from __future__ import annotations

import asyncio

from deploy.lab.clock import Clock


def test_a_standing_clock_moves_only_by_hand_and_fires_timers_in_order() -> None:
    async def run() -> tuple[list[tuple[str, float]], float]:
        clock = Clock(rate=0, start=1000.0)
        seen: list[tuple[str, float]] = []

        async def wait(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            seen.append((name, clock.now() - 1000.0))

        waiting = [asyncio.ensure_future(wait(*w)) for w in (("late", 600), ("soon", 30))]
        await clock.advance(29)
        assert not seen
        await clock.advance(1000)
        await asyncio.gather(*waiting)
        return seen, clock.now()

    seen, now = asyncio.run(run())
    assert seen == [("soon", 30.0), ("late", 600.0)]
    assert now == 2029.0


def test_a_fast_clock_makes_an_hour_pass_while_a_client_waits() -> None:
    async def run() -> float:
        clock = Clock(rate=1e6)
        start = clock.now()
        await asyncio.wait_for(clock.sleep(3600), 5)
        return clock.now() - start

    assert asyncio.run(run()) >= 3600


def test_a_timer_that_nobody_waits_for_any_more_is_dropped() -> None:
    async def run() -> None:
        clock = Clock(rate=0, start=0.0)
        waiting = asyncio.ensure_future(clock.sleep(10))
        await asyncio.sleep(0)
        waiting.cancel()
        await clock.advance(20)
        assert clock.now() == 20

    asyncio.run(run())
