"""Counts the events of one stream: reads those not counted yet, and shares the counts with other processes."""

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
"""The key of the record of counts."""

ATTEMPTS = 5
MANY_HEADERS = 5000
"""Messages read at a time, headers only."""


class CountedStream(Protocol):
    """What `StreamCounts` needs of a stream."""

    api: str
    places: StreamPlaces
    records: GroupRecordsBucket

    async def bounds(self) -> tuple[int, int]:
        """Return the oldest and the newest sequence."""

    async def messages(self, limit: int, **wanted: Any) -> tuple[list[Msg], int]:
        """Return the next messages for a consumer with these options, and the last sequence covered."""

    async def count(self, subject: str, first: int) -> int:
        """Return the number of kept events of some subjects from a sequence on."""


class StreamCounts:
    """
    The counts of one stream. Only used on the loop of its stream. Methods raise EventBackendError.

    Args:
        stream: the stream whose events are counted.

    """

    def __init__(self, stream: CountedStream) -> None:
        self.events = EventCounts(stream.places)
        self._stream = stream
        self._reading = asyncio.Lock()
        self._counted_before = 0
        """The sequence up to which we had counted at the previous `share`."""
        self._logged_uncounted = 0
        self._failures = RecurringLog(logger)

    async def catch_up(self, through: int) -> None:
        """Count the kept events up to a sequence, as far as the answering server has them."""
        async with self._reading:
            if (held := self._stream.records.records.get(KEY)) is not None:
                self.events.adopt(held.value)
            while self.events.through < through and await self._read_more():
                pass
        if self.events.uncounted > self._logged_uncounted:
            self._logged_uncounted = self.events.uncounted
            text = "%d events of %s were deleted from its stream before any process of the bus had seen them"
            self._failures.log("uncounted", logging.WARNING, text, self.events.uncounted, self._stream.api)

    async def _read_more(self) -> bool:
        before = self.events.through
        oldest, _ = await self._stream.bounds()
        self.events.skip(oldest - 1)
        # A message may not have reached the answering server yet: a gap counts once a later message is there.
        found, _ = await self._stream.messages(MANY_HEADERS, opt_start_seq=self.events.through + 1, headers_only=True)
        topic_of = self._stream.places.topic_of
        self.events.take_all((topic_of(message.subject), message.metadata.sequence.stream) for message in found)
        return self.events.through > before

    async def share(self, *, at_once: bool = False) -> None:
        """Record the counts, unless others do: then the record already has what we had counted at the previous call."""
        held = self._stream.records.records.get(KEY)
        recorded = 0 if held is None else int(held.value["through"])
        if recorded < (self.events.through if at_once else self._counted_before):
            await self._stream.records.update(KEY, self._newer_record)
        self._counted_before = self.events.through

    def _newer_record(self, recorded: Mapping[str, Any] | None) -> dict[str, Any] | None:
        is_further = recorded is None or int(recorded["through"]) < self.events.through
        return self.events.record() if is_further else None

    async def numbers_through(self, sequence: int, receivers: Collection[str]) -> dict[str, int | None]:
        """
        Return, for each `<event>.<partition>`, the number of events for `receivers` up to a sequence; None if unknown.

        Events after that sequence that are deleted already are included: nobody has lost them.
        """
        _, newest = await self._stream.bounds()
        await self.catch_up(newest)
        numbers = {}
        for topic in list(self.events.topics):
            number = await self.number_through(topic, sequence, receivers)
            if number is None:
                oldest, _ = await self._stream.bounds()
                number = await self.number_through(topic, max(sequence, oldest - 1), receivers)
            numbers[f"{topic.event}.{topic.partition}"] = number
        return numbers

    async def number_through(self, topic: EventTopic, sequence: int, receivers: Collection[str]) -> int | None:
        """Return the number of a topic's events for `receivers` up to a sequence; None if later ones are deleted."""
        events = self.events
        if events.head(topic) <= sequence <= events.through:
            return events.number(topic, receivers)
        counted = await self.number_and_kept(topic, sequence, receivers)
        oldest, _ = await self._stream.bounds()
        return None if counted is None or oldest > sequence + 1 else counted[0] - counted[1]

    async def number_and_kept(
        self, topic: EventTopic, after: int, receivers: Collection[str]
    ) -> tuple[int, int] | None:
        """
        Return how many events a topic has had for `receivers`, and how many of them are kept after a sequence.

        Return None if new events arrive all the time, so that the two numbers do not match.
        """
        for _ in range(ATTEMPTS):
            number, kept = self.events.number(topic, receivers), 0
            for only in receivers:
                kept += await self._stream.count(self._stream.places.subject(topic, only), after + 1)
            _, newest = await self._stream.bounds()
            await self.catch_up(newest)
            if self.events.through >= newest and self.events.number(topic, receivers) == number:
                return number, kept
        return None
