"""Undecoded events (`RawEvents`), made of their arguments."""

from __future__ import annotations

from typing import Any

from lightbus.events.listening.raw_events import RawEvents
from lightbus.wire import envelope
from lightbus.wire.envelope import Record

__all__ = ["raw_events"]


def raw_events(name: str, *several: dict[str, Any], journal: str = "", first: int = 1) -> RawEvents:
    """Return events of a name, one for each of these arguments; their ids are their sequences."""
    api, _, event = name.rpartition(".")
    rows = [
        [number, number - 1, envelope.encode_record(Record(str(number), 1, 1000.0 + number, kwargs))]
        for number, kwargs in enumerate(several, first)
    ]
    return RawEvents(api, event, journal, "p" * 16, rows)
