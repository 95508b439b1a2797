"""Journals for tests: storing, trimming and reading in one line."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3

from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent, Stored, TopicPage
from lightbus.adapters.sqlite.topic import Topic

__all__ = ["DAY", "ONE", "TWO", "event", "group", "page", "rows", "store", "trim"]

ONE, TWO = Topic("auth", "seen", 1), Topic("auth", "seen", 2)
DAY = 86_400.0


def event(topic: Topic = ONE, record: bytes = b"r", at: float = 1.0, id: str = "") -> NewEvent:
    """Return an event to store."""
    return NewEvent(topic, record, at, id)


def group(name: str = "shop", created_at: float = 1.0) -> KnownGroup:
    """Return a group of the API `auth`."""
    return KnownGroup("auth", name, ("seen",), created_at, 2.0, "d")


def page(journal: Journal, topic: Topic = ONE, after: int = 0, limit: int = 100, max_bytes: int = 10**6) -> TopicPage:
    """Return a page."""
    return journal.page(topic, after, limit=limit, max_bytes=max_bytes)


def store(journal: Journal, *events: NewEvent) -> list[Stored]:
    """Store events, those of one time together: the journal's own time is that of the event."""
    stored: list[Stored] = []
    for at, those in itertools.groupby(events, lambda each: each.at):
        journal.clock.now = lambda at=at: at  # type: ignore[method-assign, misc]
        stored += journal.append(list(those))
    return stored


def trim(
    journal: Journal, *, handled: dict[str, int], now: float = 2 * DAY, events: int = 10**6, size: int = 10**9
) -> list[tuple[str, Topic, int]]:
    """Trim with a minimum age of one day."""
    journal.clock.now = lambda: now  # type: ignore[method-assign]
    return journal.retention.trim(
        min_age=DAY, max_events=events, max_bytes=size, cursors=dict.fromkeys(journal.topics.all(), handled)
    )


def rows(journal: Journal) -> list[int]:
    """Return how many events each row of a journal has."""
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        return [count for (count,) in connection.execute("SELECT count FROM events ORDER BY sequence")]
