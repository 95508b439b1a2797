"""The events that one page shows, as they happen. What comes faster than anybody reads is counted, and not shown."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any

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
        self._events: deque[EventMessage] = deque(maxlen=AT_ONCE)
        self._passed_over = 0
        self._wanted: dict[tuple[str, str], bool] = {}
        """By API and event: to look it up takes a third of what it takes to match it, thousands of times a second."""

    def add(self, message: EventMessage) -> None:
        """Take an event that is wanted by its name; the arguments are looked into only where a text is asked for."""
        name = message.api_name, message.event_name
        wanted = self._wanted.get(name)
        if not (self._looks_at(name) if wanted is None else wanted):
            return
        if self._text and self._text not in encoded(message.kwargs).decode().lower():
            return
        self._passed_over += len(self._events) == AT_ONCE
        self._events.append(message)

    def _looks_at(self, name: tuple[str, str]) -> bool:
        """Return whether an event is wanted by its name, and remember that."""
        if len(self._wanted) >= MAX_NAMES:
            self._wanted.clear()
        wanted = self._wanted[name] = fnmatchcase(".".join(name), self._pattern)
        return wanted

    def take(self) -> dict[str, Any]:
        """Return what came since the last time, oldest first, and how many more there were."""
        told = {"events": [_fields(each) for each in self._events], "passed_over": self._passed_over}
        self._events.clear()
        self._passed_over = 0
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
