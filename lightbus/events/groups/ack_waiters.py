"""Callers that wait until every group has handled an event (`wait_for="ack"`). No I/O, no clock."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import NamedTuple

from ...adapters.sqlite.topic import Topic
from ...exceptions import LightbusTimeout

__all__ = ["MAX_WAITERS", "AckWaiters", "OnHandled"]

MAX_WAITERS = 10_000
"""Waiters at a time; bounded, since any peer can ask to wait for a group that never acknowledges."""

OnHandled = Callable[[LightbusTimeout | None], None]
"""Called once: with None when all groups have handled the event, or with the error that ends the waiting before."""


class _Waiter(NamedTuple):
    """`number` is unique, so that waiters of one sequence are never compared by their callbacks."""

    sequence: int
    number: int
    until: float
    on_handled: OnHandled


class AckWaiters:
    """
    The waiting callers, by topic and in the order of their events. Only touched from one loop.

    Args:
        handled_by_all: returns the sequence up to which every group has handled a topic; None if it has no group.

    """

    def __init__(self, handled_by_all: Callable[[Topic], int | None]) -> None:
        self._handled_by_all = handled_by_all
        self._waiting: dict[Topic, list[_Waiter]] = {}
        self._number = 0
        self._count = 0

    def __len__(self) -> int:
        """Return the number of waiters."""
        return self._count

    def add(self, topic: Topic, sequence: int, until: float, on_handled: OnHandled) -> bool:
        """
        Call back once all groups have handled an event; return False if too many callers wait already.

        In that case it calls back with an error: the event is stored, but its handling is not tracked.
        """
        least = self._handled_by_all(topic)
        if least is None or sequence <= least:
            on_handled(None)
            return True
        if self._count >= MAX_WAITERS:
            on_handled(_too_many())
            return False
        self._number += 1
        self._count += 1
        insort(self._waiting.setdefault(topic, []), _Waiter(sequence, self._number, until, on_handled))
        return True

    def acknowledged(self, topic: Topic) -> None:
        """Call back the waiters whose events all groups have handled now: a group advanced, or was removed."""
        waiting = self._waiting.get(topic)
        if waiting is None:
            return
        least = self._handled_by_all(topic)
        handled = 0
        while handled < len(waiting) and (least is None or waiting[handled].sequence <= least):
            handled += 1
        if handled:
            self._replace(topic, waiting[handled:])
            for waiter in waiting[:handled]:
                waiter.on_handled(None)

    def group_removed(self, api: str) -> None:
        """Check all topics of an API again."""
        for topic in [topic for topic in self._waiting if topic.api == api]:
            self.acknowledged(topic)

    def expire(self, now: float) -> None:
        """Remove waiters whose time has passed; their callers have given up by themselves."""
        for topic, waiting in list(self._waiting.items()):
            if any(waiter.until <= now for waiter in waiting):
                self._replace(topic, [waiter for waiter in waiting if waiter.until > now])

    def _replace(self, topic: Topic, waiting: list[_Waiter]) -> None:
        self._count += len(waiting) - len(self._waiting[topic])
        if waiting:
            self._waiting[topic] = waiting
        else:
            del self._waiting[topic]


def _too_many() -> LightbusTimeout:
    return LightbusTimeout(
        f"The event is on disk, and is delivered to its groups; but {MAX_WAITERS} callers wait already until their "
        "events are handled, and no more can. Fire fewer at a time with wait_for='ack', or run the groups that are "
        "behind (lightbus lag)."
    )
