"""What every fence keeps to."""

import time

import pytest

from worker.fencing.port import FenceRefused, FenceUnreachable, NotProven, PowerState
from worker.fencing.tests.conftest import Bench


def test_it_reads_the_power_state(bench: Bench) -> None:
    assert bench.fence.power_state() is PowerState.ON


def test_when_power_off_returns_the_machine_is_off(bench: Bench) -> None:
    bench.fence.power_off()
    assert not bench.is_powered()
    assert bench.fence.power_state() is PowerState.OFF


def test_a_machine_that_is_off_may_be_switched_off_again(bench: Bench) -> None:
    bench.fence.power_off()
    bench.set_fault("refuses")
    bench.fence.power_off()


def test_a_controller_that_says_yes_and_does_nothing_proves_nothing(bench: Bench) -> None:
    bench.set_fault("ignores")
    with pytest.raises(NotProven):
        bench.fence.power_off()
    assert bench.is_powered()


def test_a_controller_that_refuses_is_told_apart(bench: Bench) -> None:
    bench.set_fault("refuses")
    with pytest.raises(FenceRefused):
        bench.fence.power_off()
    assert bench.is_powered()


def test_a_silent_controller_is_unreachable_in_time(bench: Bench) -> None:
    bench.set_fault("unreachable")
    began = time.monotonic()
    for call in (bench.fence.power_state, bench.fence.power_off, bench.fence.power_on):
        with pytest.raises(FenceUnreachable):
            call()
    assert time.monotonic() - began < 5
    assert bench.is_powered()


def test_power_comes_back_when_asked_for(bench: Bench) -> None:
    bench.fence.power_off()
    bench.fence.power_on()
    for _ in range(200):
        if bench.fence.power_state() is PowerState.ON:
            break
    assert bench.is_powered()


def test_a_machine_that_is_on_is_left_on(bench: Bench) -> None:
    bench.set_fault("refuses")
    bench.fence.power_on()
    assert bench.is_powered()
