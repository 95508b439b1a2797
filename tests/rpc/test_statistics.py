"""The statistics of a procedure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.rpc.statistics import BOUNDS, LATEST, MAX_CALLERS, OTHERS, Usage, percentile


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7], 0.0, 7),
        ([7], 0.99, 7),
        ([1, 2], 0.5, 1),
        ([1, 2, 3], 0.5, 2),
        ([*range(1, 101)], 0.5, 50),
        ([*range(1, 101)], 0.99, 99),
        ([*range(1, 101)], 1.0, 100),
    ],
)
def test_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float | None) -> None:
    """It is the smallest value that at least the given share of the values does not exceed."""
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentile_is_one_of_the_values(values: list[float], share: float) -> None:
    """At least the given share of the values is not greater, whatever the values are."""
    values.sort()
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values if found is not None) >= share * len(values)


def test_calls_errors_and_callers_are_counted() -> None:
    """Calls, errors and callers are counted."""
    usage = Usage()
    usage.note(0.1, "web", failed=False)
    usage.note(0.3, "web", failed=True)
    usage.note(0.2, "shop", failed=False)
    assert (usage.calls, usage.errors, usage.callers) == (3, 1, {"web": 2, "shop": 1})
    assert usage.caller_errors == {"web": 1}
    assert (usage.latency(0.5), usage.latency(1.0)) == (0.2, 0.3)


def test_latency_by_caller() -> None:
    """Each service that made some of the latest calls has its own percentile: services may see different durations."""
    usage = Usage()
    usage.note(9.0, "early", failed=False)
    for _ in range(LATEST // 2):
        usage.note(0.1, "web", failed=False)
        usage.note(0.4, "shop", failed=True)
    assert usage.latency(0.99) == 0.4
    assert usage.latency_by_caller(0.99) == {"web": 0.1, "shop": 0.4}
    assert Usage().latency_by_caller(0.99) == {}


def test_latency_is_that_of_the_latest_calls() -> None:
    """Earlier durations do not count any more."""
    usage = Usage()
    usage.note(10.0, "web", failed=False)
    for _ in range(LATEST):
        usage.note(0.1, "web", failed=False)
    assert usage.latency(1.0) == 0.1


def test_callers_are_bounded() -> None:
    """Of any number of names, some are counted separately and the others together."""
    usage = Usage()
    for number in range(MAX_CALLERS + 50):
        usage.note(0.1, f"service-{number}", failed=True)
    usage.note(0.1, "service-0", failed=False)
    assert len(usage.callers) == MAX_CALLERS + 1
    assert usage.callers[OTHERS] == 50
    assert usage.callers["service-0"] == 2
    assert sum(usage.callers.values()) == usage.calls
    assert (len(usage.caller_errors), usage.caller_errors[OTHERS]) == (MAX_CALLERS + 1, 50)


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (0.0005, 0), (0.0006, 1), (10.0, 13), (11.0, 14)])
def test_calls_are_counted_by_their_duration(seconds: float, place: int) -> None:
    """Each call is counted once: under the first bound that it does not exceed, or above all."""
    usage = Usage()
    usage.note(seconds, "web", failed=False)
    assert [number for number, count in enumerate(usage.within) if count] == [place]
    assert len(usage.within) == len(BOUNDS) + 1
    assert usage.seconds == seconds
