"""The trace context of calls and events: names and values of W3C Trace Context, passed on unchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Trace", "current_trace", "trace_id_of", "trace_of_execution"]

Trace: TypeAlias = dict[str, Any]
"""`traceparent`, and `tracestate` and `baggage` if present. Never changed once it is sent."""

trace_of_execution: ContextVar[Trace | None] = ContextVar("lightbus_trace", default=None)
"""The trace context of the call or event that this code handles; None without one."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def current_trace() -> Trace:
    """
    Return the trace context of the call or event that this code handles; empty without one.

    Calls made and events fired by this code carry the same context, unless `bus_options={"trace": ...}` gives another.
    """
    trace = trace_of_execution.get()
    return {} if trace is None else dict(trace)


def trace_id_of(trace: Mapping[str, Any] | None) -> str:
    """Return the trace's id, 32 hexadecimal digits; empty where there is no valid one."""
    found = None if trace is None else _TRACEPARENT.match(str(trace.get("traceparent", "")))
    return "" if found is None else found[1]
