"""When `lightbus replay` fires what, as arithmetic; the command itself is in test_record.py."""

from __future__ import annotations

import pytest

from lightbus.cli.commands.replay import _ReplayPace


@pytest.mark.parametrize(
    ("times", "speed", "due"),
    [
        ([], 1.0, []),
        ([100.0, 101.0, 103.5], 1.0, [0.0, 1.0, 3.5]),
        ([100.0, 101.0, 103.5], 10.0, [0.0, 0.1, 0.35]),
        ([100.0, 101.0, 103.5], 0.5, [0.0, 2.0, 7.0]),
        ([100.0, 101.0, 103.5], 0.0, [0.0, 0.0, 0.0]),
        ([100.0, 90.0, 101.0], 1.0, [0.0, 0.0, 1.0]),
    ],
)
def test_events_keep_their_distances_at_a_speed(times: list[float], speed: float, due: list[float]) -> None:
    """Events keep their intervals, scaled by the speed; there is no wait where a clock went back."""
    pace = _ReplayPace(speed)
    assert [pace.due(at) for at in times] == pytest.approx(due)
