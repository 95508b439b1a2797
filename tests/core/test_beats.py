"""Shared moments of a process: work that is due together is due at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.beats import next_beat

TIMES = st.floats(min_value=0.0, max_value=1e8)


@given(now=TIMES, seconds=st.sampled_from([0.05, 0.1, 0.25, 1.0]))
def test_the_next_beat_is_ahead_and_not_far(now: float, seconds: float) -> None:
    """It is after now, and at most a period and the tolerance for early timers ahead."""
    assert now < next_beat(now, seconds) <= now + 1.06 * seconds


@given(now=TIMES, shorter=st.sampled_from([0.05, 0.25]), times=st.integers(min_value=2, max_value=10))
def test_beat_of_a_multiple_is_a_beat_of_the_period(now: float, shorter: float, times: int) -> None:
    """Each beat of a multiple of a period is a beat of the period."""
    beat = next_beat(now, shorter * times)
    assert next_beat(beat - shorter / 2, shorter) == pytest.approx(beat, abs=1e-5)


@given(now=TIMES)
def test_early_timer_gets_the_following_beat(now: float) -> None:
    """Not the beat that it is just before."""
    beat = next_beat(now, 1.0)
    assert next_beat(beat - 0.01, 1.0) == pytest.approx(beat + 1.0, abs=1e-5)
