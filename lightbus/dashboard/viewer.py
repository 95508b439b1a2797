"""The events that one page shows, as they happen. What comes faster than anybody reads is counted, and not shown."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any

from ..events.listening.raw_events import RawEvents
from ..message import EventMessage
from ..wire.plain import json_form
from .answers import encoded

__all__ = ["AT_ONCE", "EVERY", "PageViewer"]

EVERY = 0.25
"""Seconds between two portions for a page."""

AT_ONCE = 50
"""Events of a portion: more nobody can read."""

MAX_NAMES = 10_000
"""Names of events of which it is remembered whether they are wanted."""


class PageViewer:
    """
    What one page is to be shown.

    Args:
        pattern: names, with wildcards.
        text: what has to occur in the arguments, in the form of JSON; small letters.

    """

    def __init__(self, pattern: str, text: str) -> None:
        self._pattern = pattern or "*"
        self._text = text.lower()
        self._events: deque[RawEvents] = deque()
        """What came last, no more than `AT_ONCE`: none of it is decoded before it is shown."""
        self._held = 0
        self._passed_over = 0
        self._wanted: dict[tuple[str, str], bool] = {}
        """By API and event: to look it up takes a third of what it takes to match it, thousands of times a second."""

    def add(self, events: RawEvents) -> None:
        """Take events that are wanted by their name; their arguments are looked into only where a text is asked for."""
        name = events.api, events.event
        wanted = self._wanted.get(name)
        if not (self._looks_at(name) if wanted is None else wanted):
            return
        if self._text:
            events = events.only(self._has_text)
        last = events.last(AT_ONCE)
        self._events.append(last)
        self._held += len(last.rows)
        self._passed_over += len(events.rows) - len(last.rows)
        while self._held > AT_ONCE:
            self._drop(self._held - AT_ONCE)

    def _drop(self, count: int) -> None:
        """Pass over the oldest ones, so many of them at most."""
        first = self._events.popleft()
        dropped = min(count, len(first.rows))
        if dropped < len(first.rows):
            self._events.appendleft(first.last(len(first.rows) - dropped))
        self._held -= dropped
        self._passed_over += dropped

    def _has_text(self, message: EventMessage) -> bool:
        return self._text in encoded(message.kwargs).decode().lower()

    def _looks_at(self, name: tuple[str, str]) -> bool:
        """Return whether an event is wanted by its name, and remember that."""
        if len(self._wanted) >= MAX_NAMES:
            self._wanted.clear()
        wanted = self._wanted[name] = fnmatchcase(".".join(name), self._pattern)
        return wanted

    def take(self) -> dict[str, Any]:
        """Return what came since the last time, oldest first, and how many more there were."""
        messages = [message for each in self._events for message in each.messages()]
        messages.sort(key=lambda message: message.published_at)  # those of different topics come as they come
        events = [_fields(message) for message in messages]
        told = {"events": events, "passed_over": self._passed_over}
        self._events.clear()
        self._held = self._passed_over = 0
        return told


def _fields(message: EventMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "native_id": message.native_id,
        "name": message.canonical_name,
        "version": message.version,
        "published_at": message.published_at,
        "publisher": message.publisher,
        "kwargs": json_form(message.kwargs, finite=True),
    }
