"""Tests of lightbus.gateway.rates: how often a client may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.gateway import rates
from lightbus.gateway.rates import RateLimit


def test_burst_and_rate() -> None:
    """A client over its limit is told when there is room again, and is admitted then."""
    limit = RateLimit(2, burst=3)
    assert [limit.wait("a", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait("a", 10.4) == pytest.approx(0.1)
    assert limit.wait("a", 10.5) == 0
    assert limit.wait("a", 10.5) > 0


def test_clients_are_counted_separately() -> None:
    """Each client has its own limit."""
    limit = RateLimit(1, burst=1)
    assert limit.wait("a", 0) == 0
    assert limit.wait("a", 0) > 0
    assert limit.wait("b", 0) == 0


def test_zero_means_no_limit() -> None:
    """Zero is any number."""
    limit = RateLimit(0)
    assert {limit.wait("a", 0) for _ in range(1000)} == {0.0}


def test_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently seen client is forgotten."""
    monkeypatch.setattr(rates, "MAX_CLIENTS", 2)
    limit = RateLimit(1, burst=1)
    for client in ("a", "b", "a", "c"):
        limit.wait(client, 0)
    assert limit.wait("a", 0) > 0
    assert limit.wait("b", 0) == 0
    assert len(limit._left) == 2


@given(st.lists(st.floats(0, 2), max_size=100), st.floats(0.5, 50), st.floats(1, 20))
def test_never_more_than_the_rate(pauses: list[float], per_second: float, burst: float) -> None:
    """In any period at most the burst plus the rate is admitted."""
    limit, now, admitted = RateLimit(per_second, burst), 0.0, 0
    for pause in pauses:
        now += pause
        admitted += limit.wait("a", now) == 0
        assert admitted <= burst + per_second * now + 1e-6
