"""The events fired within one tick of the loop, in order: stored in one commit, then each waiter is informed."""

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
"""Informed of the outcome of an event; if there is a message, the event's place is set in it."""

_new = tuple.__new__  # makes a NamedTuple in half the time


class TickBatch:
    """
    Events to be stored. Successive events of one topic are collected in a run, as they will be stored.

    Attributes:
        runs: the runs, for the journal.
        topics: the topic on the wire of each run.
        waiters: the waiters of each run, one for each event.

    """

    __slots__ = ("_first_at", "_last_topic", "_records", "_waiters", "runs", "topics", "waiters")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.topics: list[bytes] = []
        self.waiters: list[list[TickWaiter]] = []
        self._last_topic: bytes | None = None
        """The topic of the run that can be added to; next, its time, its records and its waiters."""
        self._first_at = 0.0
        self._records: list[bytes] = []
        self._waiters: list[TickWaiter] = []

    @property
    def is_small(self) -> bool:
        """Whether it has at most one event."""
        return len(self.runs) < 2 and len(self._records) < 2

    def add(self, topic: bytes, name: Topic, record: bytes, at: float, id: str, waiter: TickWaiter) -> None:
        """Add an event. One with an id, which was handed off, is a run by itself: the journal may have it already."""
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
        """Inform each waiter of its event's place in this journal; `firsts` has the first place of each run."""
        for (topic, *_), waiters, (sequence, previous, is_new) in zip(self.runs, self.waiters, firsts, strict=True):
            for waiter in waiters:
                if type(waiter) is tuple:  # the usual case if many are fired at once
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
