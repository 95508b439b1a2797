"""The events fired within one tick of the loop, in order: stored by one commit, then each waiter is informed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...adapters.sqlite.journal import Run, Stored
from ...adapters.sqlite.rows import MAX_APART
from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError
from ...message import EventMessage

__all__ = ["TickBatch", "TickWaiter"]

TickWaiter: TypeAlias = (
    "tuple[EventMessage, asyncio.Future[Any]] | asyncio.Future[Any] | Callable[[Topic, Stored | JournalError], None]"
)
"""Informed of the outcome of an event; in a message its place is set."""

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time


class TickBatch:
    """
    Events that wait to be stored. Those of one topic in a row are put together as they come, as they will be stored.

    Attributes:
        runs: the events, for the journal.
        topics: of each run, how it is published.
        waiters: of each run, those that wait for its events.

    """

    __slots__ = ("_first_at", "_last_topic", "_records", "_waiters", "runs", "topics", "waiters")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.topics: list[bytes] = []
        self.waiters: list[list[TickWaiter]] = []
        self._last_topic: bytes | None = None
        """The run that can be added to: its time, its records, and those that wait for them."""
        self._first_at = 0.0
        self._records: list[bytes] = []
        self._waiters: list[TickWaiter] = []

    @property
    def is_small(self) -> bool:
        """Whether it has one event at most."""
        return len(self.runs) < 2 and len(self._records) < 2

    def add(self, topic: bytes, name: Topic, record: bytes, at: float, id: str, waiter: TickWaiter) -> None:
        """Add an event. One that was handed off, which has an id, is a run by itself: it may be there already."""
        if topic is self._last_topic and not id and -MAX_APART <= at - self._first_at <= MAX_APART:
            self._records.append(record)
            self._waiters.append(waiter)
            return
        records, waiters = [record], [waiter]
        self.runs.append(_new(Run, (name, at, records, id)))
        self.topics.append(topic)
        self.waiters.append(waiters)
        self._last_topic, self._first_at = None if id else topic, at
        self._records, self._waiters = records, waiters

    def resolve(self, journal: str, firsts: Sequence[Stored]) -> None:
        """Inform each waiter of its place in the journal of this name: `firsts` has the first one of each run."""
        for (topic, *_), waiters, (sequence, previous, is_new) in zip(self.runs, self.waiters, firsts, strict=True):
            for waiter in waiters:
                if type(waiter) is tuple:  # as nearly always where many are fired at once
                    message, kept = waiter
                    message._native_id = journal, sequence
                    if not kept.done():
                        kept.set_result(None)
                else:
                    _resolve(topic, waiter, _new(Stored, (sequence, previous, is_new)))
                previous, sequence = sequence, sequence + 1

    def fail(self, error: JournalError) -> None:
        """Inform each waiter that its event is not stored."""
        for run, waiters in zip(self.runs, self.waiters, strict=True):
            for waiter in waiters:
                _resolve(run.topic, waiter, error)


def _resolve(topic: Topic, waiter: TickWaiter, outcome: Stored | JournalError) -> None:
    future = waiter[1] if isinstance(waiter, tuple) else waiter
    if not isinstance(future, asyncio.Future):
        future(topic, outcome)
    elif not future.done():
        if isinstance(outcome, JournalError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
