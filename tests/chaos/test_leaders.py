"""A JetStream of three servers whose leader is killed while events are fired."""

from __future__ import annotations

import pytest

from chaos.leaders import leaders


@pytest.mark.long
def test_no_event_is_lost_when_leaders_are_killed() -> None:
    """Every event is handled by each group, the first handlings of each key in order."""
    found = leaders(1500, every=2.0, least=2)
    assert (found.lost, found.inversions) == (0, 0), found.line()
    assert found.kills >= 2
