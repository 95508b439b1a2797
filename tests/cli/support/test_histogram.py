"""Percentiles and histograms."""

from __future__ import annotations

import math

import pytest

from lightbus.cli.support.histogram import histogram, percentile, show_histogram, summary
from lightbus.cli.support.output import Output


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (90, 90), (99, 99), (99.9, 100), (0, 1), (100, 100)])
def test_percentiles_are_recorded_values(percent: float, expected: int) -> None:
    """They are the smallest values that the given percentage does not exceed."""
    assert percentile(range(1, 101), percent) == expected
    assert percentile([7], percent) == 7


def test_summary_does_not_depend_on_the_order() -> None:
    """In any order; of nothing there is nothing."""
    assert summary([3.0, 1.0, 2.0]) == {"min": 1.0, "p50": 2.0, "p90": 3.0, "p99": 3.0, "p999": 3.0, "max": 3.0}
    assert {*summary([]).values()} == {None}


def test_bars_reach_from_the_first_to_the_last_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty bars in between are included; each value is in exactly one bar."""
    times = [1e-6, 0.9e-3, 1e-3, 1.1e-3, 9e-3, 1e9]
    bars = histogram(times)
    assert sum(count for _, count in bars) == len(times)
    counts = dict(bars)
    assert counts[1e-3] == 2
    assert counts[2e-3] == 1
    assert counts[5e-3] == 0
    assert bars[-1] == (math.inf, 1)
    assert histogram([]) == []
    show_histogram(Output(), [1.1e-3] * 80 + [9e-3])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["<=", "2.0", "ms", "80", "#" * 40], ["<=", "5.0", "ms", "0"], ["<=", "10.0", "ms", "1", "#"]]
