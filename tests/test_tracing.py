from __future__ import annotations

from contextvars import Context

import pytest

import lightbus
from lightbus.tracing import current_trace, trace_id_of, trace_of_execution

ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (None, ""),
        ({}, ""),
        ({"traceparent": f"00-{ID}-00f067aa0ba902b7-01"}, ID),
        ({"traceparent": f"00-{ID}-00f067aa0ba902b7-01-later"}, ID),
        ({"traceparent": "00-xyz"}, ""),
        ({"traceparent": 5}, ""),
    ],
)
def test_trace_id_is_read_from_traceparent(trace: dict[str, object] | None, expected: str) -> None:
    """It is read from `traceparent`; of anything else there is none."""
    assert trace_id_of(trace) == expected


def test_current_trace_is_a_copy() -> None:
    """Who changes it changes nothing for others."""

    def run() -> None:
        trace_of_execution.set({"traceparent": "x"})
        current_trace()["traceparent"] = "y"
        assert current_trace() == {"traceparent": "x"}

    Context().run(run)
    assert lightbus.current_trace() == {}
