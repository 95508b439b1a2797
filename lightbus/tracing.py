"""The trace context that goes with calls and events: names and values of W3C Trace Context, passed on untouched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Trace", "current_trace", "trace_id_of", "trace_of_execution"]

Trace: TypeAlias = dict[str, Any]
"""`traceparent`, and `tracestate` and `baggage` where there are such. Never changed once it is sent."""

trace_of_execution: ContextVar[Trace | None] = ContextVar("lightbus_trace", default=None)
"""That of the call that is served, or of the event that is handled, by this code; None without one."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def current_trace() -> Trace:
    """
    Return the trace context that came with the call or event that this code handles; empty without one.

    Calls that it makes, and events that it fires, carry the same one, unless `bus_options={"trace": ...}` says another.
    """
    trace = trace_of_execution.get()
    return {} if trace is None else dict(trace)


def trace_id_of(trace: Mapping[str, Any] | None) -> str:
    """Return the trace's id, 32 hexadecimal digits; empty where there is none that could be read."""
    found = None if trace is None else _TRACEPARENT.match(str(trace.get("traceparent", "")))
    return "" if found is None else found[1]
