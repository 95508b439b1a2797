"""The live events that one page shows. Events that arrive too fast to be read are counted, not shown."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any

from ..events.listening.raw_events import RawEvents
from ..exceptions import DeformError
from ..message import EventMessage
from ..wire.plain import shown_form
from .answers import encoded

__all__ = ["AT_ONCE", "EVERY", "PageViewer"]

EVERY = 0.25
"""Seconds between two portions of events for a page."""

AT_ONCE = 50
"""The most events in a portion: nobody can read more."""

MAX_NAMES = 10_000
"""The most event names for which the result of matching is cached."""


class PageViewer:
    """
    The live events for one page.

    Args:
        pattern: the event names, with wildcards.
        text: a text that must occur in the arguments as JSON; case does not matter.

    """

    def __init__(self, pattern: str, text: str) -> None:
        self._pattern = pattern or "*"
        self._text = text.lower()
        self._events: deque[RawEvents] = deque()
        """The latest events, at most `AT_ONCE`, which are decoded when they are sent to the page."""
        self._held = 0
        self._passed_over = 0
        self._wanted: dict[tuple[str, str], bool] = {}
        """By API and event: whether the name matches. A look-up takes a third of the time of matching it."""

    def add(self, events: RawEvents) -> None:
        """Add events whose names match; their arguments are only searched if the page filters by a text."""
        name = events.api, events.event
        wanted = self._wanted.get(name)
        if not (self._is_wanted(name) if wanted is None else wanted):
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
        """Drop up to `count` of the oldest events, and count them as passed over."""
        first = self._events.popleft()
        dropped = min(count, len(first.rows))
        if dropped < len(first.rows):
            self._events.appendleft(first.last(len(first.rows) - dropped))
        self._held -= dropped
        self._passed_over += dropped

    def _has_text(self, message: EventMessage) -> bool:
        try:
            return self._text in encoded(message.kwargs).decode().lower()
        except DeformError:
            return False

    def _is_wanted(self, name: tuple[str, str]) -> bool:
        """Return whether an event's name matches the pattern, and cache the result."""
        if len(self._wanted) >= MAX_NAMES:
            self._wanted.clear()
        wanted = self._wanted[name] = fnmatchcase(".".join(name), self._pattern)
        return wanted

    def take(self) -> dict[str, Any]:
        """Return the events since the last call, oldest first, and how many more were dropped."""
        messages = [message for each in self._events for message in each.messages()]
        messages.sort(key=lambda message: message.published_at)  # events of different topics arrive in any order
        portion = {"events": [_fields(message) for message in messages], "passed_over": self._passed_over}
        self._events.clear()
        self._held = self._passed_over = 0
        return portion


def _fields(message: EventMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "native_id": message.native_id,
        "name": message.canonical_name,
        "version": message.version,
        "published_at": message.published_at,
        "publisher": message.publisher,
        "kwargs": shown_form(message.kwargs),
    }
