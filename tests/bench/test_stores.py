"""The comparison of event stores."""

from __future__ import annotations

import pytest

from bench.stores import STORES, measure


@pytest.mark.parametrize("store", STORES[:2])
def test_store_is_measured(store: str) -> None:
    """Each figure is a number, and the row names its store."""
    row = measure(store, 1000, 5)
    assert 0 < row.fire <= row.slow_fire
    assert row.fired_together > 0
    assert row.caught_up > 0
    assert str(row).startswith(f"| {store} | ")
