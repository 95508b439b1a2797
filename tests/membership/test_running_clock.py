"""A clock that stops while the process does not run."""

from __future__ import annotations

from lightbus.membership.running_clock import LONGEST_STEP, RunningClock


def test_long_gaps_between_readings_do_not_count() -> None:
    """The time between two readings counts up to a limit."""
    now = 1000.0
    clock = RunningClock(lambda: now)
    assert clock.read() == 0.0
    now += 0.125
    assert clock.read() == 0.125
    now += 60.0
    assert clock.read() == 0.125 + LONGEST_STEP
    now += 0.125
    assert clock.read() == 0.25 + LONGEST_STEP
