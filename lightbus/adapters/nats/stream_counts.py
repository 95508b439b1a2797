"""Counts the events of one stream: reads what is not counted yet, and shares what is with the other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from nats.aio.msg import Msg

from ...ports.events import EventTopic
from ...recurring import RecurringLog
from .event_counts import EventCounts
from .group_records import GroupRecordsBucket
from .places import StreamPlaces

__all__ = ["KEY", "MANY_HEADERS", "CountedStream", "StreamCounts"]

logger = logging.getLogger("lightbus.events")

KEY = "count.all"
"""Of the record of what was counted."""

ATTEMPTS = 5
MANY_HEADERS = 5000
"""Messages that are read at a time without what is in them."""


class CountedStream(Protocol):
    """What is asked of a stream to count its events."""

    api: str
    places: StreamPlaces
    records: GroupRecordsBucket

    async def bounds(self) -> tuple[int, int]:
        """Return the oldest and the newest sequence."""

    async def messages(self, limit: int, **wanted: Any) -> tuple[list[Msg], int]:
        """Return the next messages as a consumer that wants this is given them, and through where that goes."""

    async def count(self, subject: str, first: int) -> int:
        """Return how many events of subjects are kept from a sequence on."""


class StreamCounts:
    """
    Only used on the loop of its stream. Methods raise EventBackendError.

    Args:
        stream: whose events are counted.

    """

    def __init__(self, stream: CountedStream) -> None:
        self.events = EventCounts(stream.places)
        self._stream = stream
        self._reading = asyncio.Lock()
        self._known_lately = 0
        """Through where we had counted when it was last looked whether that is on record."""
        self._told_uncounted = 0
        self._failures = RecurringLog(logger)

    async def catch_up(self, through: int) -> None:
        """Count what is kept up to a sequence, so far as a server tells that has it."""
        async with self._reading:
            if (held := self._stream.records.records.get(KEY)) is not None:
                self.events.adopt(held.value)
            while self.events.through < through and await self._read_more():
                pass
        if self.events.uncounted > self._told_uncounted:
            self._told_uncounted = self.events.uncounted
            text = "%d events of %s were deleted from its stream before any process of the bus had seen them"
            self._failures.log("uncounted", logging.WARNING, text, self.events.uncounted, self._stream.api)

    async def _read_more(self) -> bool:
        before = self.events.through
        oldest, _ = await self._stream.bounds()
        self.events.skip(oldest - 1)
        # What is not found may not have come to the server that is read from: it counts once something behind it has.
        found, _ = await self._stream.messages(MANY_HEADERS, opt_start_seq=self.events.through + 1, headers_only=True)
        topic_of = self._stream.places.topic_of
        self.events.take_all((topic_of(message.subject), message.metadata.sequence.stream) for message in found)
        return self.events.through > before

    async def share(self, *, at_once: bool = False) -> None:
        """Put on record what was counted, unless others do so: what we had counted a look ago is on record then."""
        held = self._stream.records.records.get(KEY)
        recorded = 0 if held is None else int(held.value["through"])
        if recorded < (self.events.through if at_once else self._known_lately):
            await self._stream.records.update(KEY, self._further)
        self._known_lately = self.events.through

    def _further(self, recorded: Mapping[str, Any] | None) -> dict[str, Any] | None:
        is_further = recorded is None or int(recorded["through"]) < self.events.through
        return self.events.record() if is_further else None

    async def numbers_through(self, sequence: int, whom: Collection[str]) -> dict[str, int | None]:
        """
        Return by `<event>.<partition>` how many events there were up to a sequence that are for somebody.

        What is deleted behind that sequence already is among them: it is nobody's loss. None where that is not known.
        """
        _, newest = await self._stream.bounds()
        await self.catch_up(newest)
        numbers = {}
        for topic in list(self.events.topics):
            number = await self.number_through(topic, sequence, whom)
            if number is None:
                oldest, _ = await self._stream.bounds()
                number = await self.number_through(topic, max(sequence, oldest - 1), whom)
            numbers[f"{topic.event}.{topic.partition}"] = number
        return numbers

    async def number_through(self, topic: EventTopic, sequence: int, whom: Collection[str]) -> int | None:
        """Return how many events a topic has had for somebody up to a sequence; None where some behind it are gone."""
        events = self.events
        if events.head(topic) <= sequence <= events.through:
            return events.number(topic, whom)
        counted = await self.number_and_kept(topic, sequence, whom)
        oldest, _ = await self._stream.bounds()
        return None if counted is None or oldest > sequence + 1 else counted[0] - counted[1]

    async def number_and_kept(self, topic: EventTopic, after: int, whom: Collection[str]) -> tuple[int, int] | None:
        """
        Return how many events a topic has had for somebody, and how many are kept behind a sequence at that time.

        None where others come all the time, so that the two do not fit.
        """
        for _ in range(ATTEMPTS):
            number, kept = self.events.number(topic, whom), 0
            for only in whom:
                kept += await self._stream.count(self._stream.places.subject(topic, only), after + 1)
            _, newest = await self._stream.bounds()
            await self.catch_up(newest)
            if self.events.through >= newest and self.events.number(topic, whom) == number:
                return number, kept
        return None
