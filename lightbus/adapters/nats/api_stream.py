"""The stream of one API: its events in order, and notifications of new ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from ...exceptions import EventBackendError
from ...phrases import INTERNAL_ERROR
from ...ports.events import EventTopic, OutgoingEvent, StoredEvent
from ...recurring import RecurringLog
from .connection import NatsConnection
from .group_records import GroupRecordsBucket
from .places import StreamPlaces
from .stream_counts import StreamCounts
from .stream_publisher import PUBLISHED_AT, StreamPublisher

__all__ = ["ALL", "MANY", "PAST", "ApiStream", "published_at"]

logger = logging.getLogger("lightbus.events")

ALL = "all"
"""The receiver of an event that is for every group."""

PAST = "past"
"""The receiver of an event that was moved into the stream: groups created later that want older events."""

LOOK_EVERY = 2.0
"""Seconds between two checks of the newest event, in case a notification was lost."""

DUPLICATES_WITHIN = 600.0
READ_TIMEOUT = 2.0
MANY = 500
"""Messages read at a time."""

IDLE = 30.0

MAX_TIME = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class ApiStream:
    """
    The stream of one API. Only used on the loop that it was made on. Methods raise EventBackendError.

    Args:
        connection: the connection to the servers.
        bus, api: the bus and the API of the events.

    """

    def __init__(self, connection: NatsConnection, bus: str, api: str) -> None:
        self.places = StreamPlaces(bus, api)
        self.api = api
        self.records = GroupRecordsBucket(connection, self.places.bucket)
        self.counts = StreamCounts(self)
        self._connection = connection
        self._publisher = StreamPublisher(connection, self.places, api)
        self._opening = asyncio.Lock()
        self._is_open = False
        self._subscribed_by: object = None
        """The client by which new events are reported."""
        self._is_foreign_known = False
        self._newest = 0
        self._heads: dict[EventTopic, int] = {}
        """The newest event of each topic that notifications have reported."""
        self._followers: list[Callable[[EventTopic | None, int], None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._failures = RecurringLog(logger)

    def follow(self, news: Callable[[EventTopic | None, int], None]) -> Callable[[], None]:
        """Call `news` with topic (None: any) and sequence of each new event; return a function that ends that."""
        self._followers.append(news)
        return lambda: self._followers.remove(news)

    async def opened(self) -> JetStreamContext:
        """Return the JetStream context, once the stream exists, created if necessary, and is watched."""
        client, jetstream = await self._connection.client(), await self._connection.jetstream()
        async with self._opening:
            if not self._is_open:
                async with self._connection.asking():
                    await self._find_or_make(jetstream)
                    subscription = await self._subscribe_to_events(jetstream)
                try:
                    await self.records.open()
                except BaseException:
                    with suppress(Exception):  # the next attempt makes another one, and each event would come twice
                        await subscription.unsubscribe()
                    raise
                self._looking = asyncio.get_running_loop().create_task(self._poll_regularly())
                self._is_open, self._subscribed_by = True, client
            elif self._subscribed_by is not client:  # a server has ended the connection, and so the subscription
                async with self._connection.asking():
                    await self._subscribe_to_events(jetstream)
                self._subscribed_by = client
                self._notify(None, self._newest)  # of the events in between nothing will be reported
        return jetstream

    async def _find_or_make(self, jetstream: JetStreamContext) -> None:
        settings, places = self._connection.settings, self.places
        try:
            info = await jetstream.stream_info(places.stream)
        except NotFoundError:
            config = StreamConfig(
                name=places.stream,
                description=f"Events of {self.api}",
                subjects=[f"{places.prefix}.>"],
                num_replicas=settings.replicas,
                storage=StorageType.FILE,
                discard=DiscardPolicy.OLD,
                max_age=settings.max_age,
                max_bytes=settings.max_bytes,
                max_msgs=settings.max_events,
                duplicate_window=min(DUPLICATES_WITHIN, settings.max_age or DUPLICATES_WITHIN),
            )
            await jetstream.add_stream(config)
            return
        if (why := _why_unsuitable(info.config, f"{places.prefix}.>")) is not None:
            raise EventBackendError(
                f"The stream {places.stream} {why}: it was not made for the events of {self.api}. It is left as it is; "
                "remove it, or rename the bus."
            )

    async def _subscribe_to_events(self, jetstream: JetStreamContext) -> JetStreamContext.PushSubscription:
        return await jetstream.subscribe(
            f"{self.places.prefix}.>",
            stream=self.places.stream,
            cb=self._on_event,
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW, headers_only=True),
        )

    async def _on_event(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        found = self.places.topic_of(message.subject)
        self.counts.events.take_next(found, sequence)
        if found is None:
            self._newest = max(self._newest, sequence)
            self._note_foreign(message.subject)
            return
        topic, _ = found
        self._heads[topic] = max(sequence, self._heads.get(topic, 0))
        self._notify(topic, sequence)

    def _notify(self, topic: EventTopic | None, sequence: int) -> None:
        self._newest = max(self._newest, sequence)
        for follower in list(self._followers):
            follower(topic, sequence)

    async def _poll_regularly(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                head = await self.head()
                if head > self._newest:
                    self._notify(None, head)
                await self.counts.catch_up(head)
                await self.counts.share()
            except EventBackendError:
                continue  # reported by the next request that fails
            except Exception as error:  # of the client library, for example: later events must be noticed
                text = "New events of %s were not looked for, which is tried again: %s"
                self._failures.log("poll", logging.ERROR, text, self.api, INTERNAL_ERROR, exc_info=error)

    async def close(self) -> None:
        """Stop polling and watching; record the counts."""
        try:
            if self._looking is not None:
                self._looking.cancel()
                with suppress(EventBackendError):
                    await self.counts.share(at_once=True)
        finally:
            self.records.close()

    # Reading

    async def head(self) -> int:
        """Return the newest sequence."""
        jetstream = await self.opened()
        async with self._connection.asking():
            return int((await jetstream.stream_info(self.places.stream)).state.last_seq)

    async def bounds(self) -> tuple[int, int]:
        """Return the oldest and the newest sequence."""
        jetstream = await self.opened()
        async with self._connection.asking():
            state = (await jetstream.stream_info(self.places.stream)).state
        return int(state.first_seq), int(state.last_seq)

    async def size(self) -> int:
        """Return the number of events in the stream."""
        jetstream = await self.opened()
        async with self._connection.asking():
            return int((await jetstream.stream_info(self.places.stream)).state.messages)

    async def topics(self) -> set[EventTopic]:
        """Return the topics that have events."""
        jetstream = await self.opened()
        async with self._connection.asking():
            info = await jetstream.stream_info(self.places.stream, subjects_filter=">")
        found = [self.places.topic_of(subject) for subject in info.state.subjects or {}]
        return {each[0] for each in found if each is not None}

    async def publish(self, events: Sequence[OutgoingEvent], only: str = ALL) -> list[int | EventBackendError]:
        """Store events in order; return the sequence or error of each: after the first error, none is stored."""
        await self.opened()
        return await self._publisher.publish(events, only)

    async def read(self, subject: str, first: int, limit: int) -> tuple[list[tuple[StoredEvent, str]], int]:
        """Return events of a subject from a sequence on, each with its receiver, and the last sequence covered."""
        found, through = await self.messages(limit, filter_subject=subject, opt_start_seq=max(1, first))
        return [event for message in found if (event := self._stored(message)) is not None], through

    async def read_topic(self, topic: EventTopic, after: int, limit: int) -> tuple[list[tuple[StoredEvent, str]], int]:
        """
        Return the next events of a topic, and the last sequence covered. Raises EventBackendError if that is unclear.

        The first event is requested from the leader. A consumer that reads many is placed on any server, which may not
        have the newest events yet. Only a leader that stays the leader meanwhile is trusted that there are no more.
        """
        subject = self.places.subject(topic, "*")
        leader, head = await self._leader()
        first = await self._next(subject, after + 1)
        if first is None:
            still_leads, _ = await self._leader()
            if still_leads != leader or head < self._heads.get(topic, 0):
                raise self._connection.unreachable(f"another server leads the stream of {self.api} now")
            return [], head
        events = [first]
        if max(self._heads.get(topic, 0), self.counts.events.head(topic)) > first[0].sequence and limit > 1:
            more, _ = await self.read(subject, first[0].sequence + 1, limit - 1)
            events += more
        return events, events[-1][0].sequence

    async def _leader(self) -> tuple[str, int]:
        """Return the name of the stream's leader, and its newest sequence."""
        jetstream = await self.opened()
        async with self._connection.asking():
            info = await jetstream.stream_info(self.places.stream)
        return (info.cluster.leader or "") if info.cluster is not None else "", int(info.state.last_seq)

    async def _next(self, subject: str, first: int) -> tuple[StoredEvent, str] | None:
        """Return the leader's next event of a subject, and its receiver."""
        jetstream = await self.opened()
        async with self._connection.asking():
            try:
                found = await jetstream.get_msg(self.places.stream, seq=first, subject=subject, next=True)
            except NotFoundError:
                return None
        return self._event(found.subject, found.seq or 0, found.data, found.headers)

    async def purge(self, through: int) -> None:
        """Delete the events up to a sequence."""
        jetstream = await self.opened()
        async with self._connection.asking():
            await jetstream.purge_stream(self.places.stream, seq=through + 1)

    async def messages(self, limit: int, **wanted: Any) -> tuple[list[Msg], int]:
        """Return the next messages for a consumer with these options, and the last sequence covered."""
        jetstream = await self.opened()
        async with self._connection.asking():
            return await _read(jetstream, self.places.stream, limit, **wanted)

    async def count(self, subject: str, first: int) -> int:
        """Return the number of kept events of some subjects from a sequence on."""
        jetstream = await self.opened()
        async with self._connection.asking():
            wanted = _reader_config(opt_start_seq=max(1, first), filter_subject=subject)
            consumer = await jetstream.add_consumer(self.places.stream, wanted)
            await jetstream.delete_consumer(self.places.stream, consumer.name)
        return int(consumer.num_pending or 0)

    async def find(self, sequence: int) -> tuple[StoredEvent, str] | None:
        """Return an event and its receiver; None if it is not kept."""
        jetstream = await self.opened()
        async with self._connection.asking():
            try:
                message = await jetstream.get_msg(self.places.stream, sequence)
            except NotFoundError:
                return None
        return self._event(message.subject, sequence, message.data, message.headers)

    def _stored(self, message: Msg) -> tuple[StoredEvent, str] | None:
        return self._event(message.subject, message.metadata.sequence.stream, message.data, message.headers)

    def _event(
        self, subject: str | None, sequence: int, data: bytes | None, headers: dict[str, Any] | None
    ) -> tuple[StoredEvent, str] | None:
        """Return the event in a message, and its receiver; None for a message that is not ours."""
        found = self.places.topic_of(subject or "")
        if found is None:
            return None
        topic, only = found
        return StoredEvent(sequence, topic, data or b"", published_at(headers)), only

    def _note_foreign(self, subject: str) -> None:
        """Log once that another program writes into the stream."""
        if not self._is_foreign_known:
            self._is_foreign_known = True
            logger.warning(
                "Another program writes into the stream %s, last with the subject %s. Its messages are not events of "
                "Lightbus and are skipped; give that program a stream of its own.",
                self.places.stream, subject,
            )  # fmt: skip


async def _read(jetstream: JetStreamContext, stream: str, limit: int, **wanted: Any) -> tuple[list[Msg], int]:
    head = (await jetstream.stream_info(stream)).state.last_seq
    consumer = await jetstream.add_consumer(stream, _reader_config(**wanted))
    wanted_count = min(limit, consumer.num_pending or 0)
    found: list[Msg] = []
    try:
        if wanted_count:
            pull = await jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)
            try:
                while len(found) < wanted_count:
                    found += await pull.fetch(wanted_count - len(found), timeout=READ_TIMEOUT)
            finally:
                await pull.unsubscribe()
    finally:
        await jetstream.delete_consumer(stream, consumer.name)
    gapless = _gapless(found)
    if found and not gapless:
        raise TimeoutError("messages were lost in transit")
    last = gapless[-1].metadata.sequence.stream if gapless else 0
    is_all = len(gapless) == len(found) < limit
    return gapless, max(head, last) if is_all else last


def _gapless(found: Sequence[Msg]) -> list[Msg]:
    """Return the messages up to the first gap: messages sent to a broken connection are not sent again."""
    return [
        message
        for _, message in takewhile(lambda each: each[1].metadata.sequence.consumer == each[0], enumerate(found, 1))
    ]


def _reader_config(**wanted: Any) -> ConsumerConfig:
    """Return the configuration of a consumer that reads once: without acks, in memory, deleted when idle."""
    config = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, **wanted}
    return ConsumerConfig(
        ack_policy=AckPolicy.NONE, inactive_threshold=IDLE, mem_storage=True, num_replicas=1, **config
    )  # fmt: skip


def _why_unsuitable(config: StreamConfig, subjects: str) -> str | None:
    """Return why a stream cannot store events with these subjects; None if it can."""
    if config.subjects != [subjects]:
        return f"has the subjects {', '.join(config.subjects or ()) or 'of another stream'}, and not {subjects}"
    if config.retention not in (None, RetentionPolicy.LIMITS):
        return f"has the retention {config.retention}, which deletes what one group has read"
    if config.no_ack:
        return "does not acknowledge what it stores (no_ack)"
    return None


def published_at(headers: dict[str, Any] | None) -> float:
    """Return the time at which a message was fired; 0 if it has none, or an invalid one."""
    try:
        seconds = float((headers or {})[PUBLISHED_AT])
    except (KeyError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < MAX_TIME else 0.0
