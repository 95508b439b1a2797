"""The stream of one API: its events, in order, and the news that there are more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from ...exceptions import EventBackendError
from ...ports.events import EventTopic, OutgoingEvent, StoredEvent
from .connection import NatsConnection
from .group_records import GroupRecordsBucket
from .places import Places

__all__ = ["ALL", "ApiStream"]

logger = logging.getLogger("lightbus.events")

ALL = "all"
"""Whom an event is for that is for every group."""

LOOK_EVERY = 5.0
"""Seconds after which it is looked what is the newest event, for news that did not come."""

PUBLISHED_AT = "Lightbus-Published-At"
DUPLICATES_WITHIN = 600.0
READ_TIMEOUT = 2.0
ATTEMPTS = 3
MANY = 500
IDLE = 30.0


class ApiStream:
    """
    Only used on the loop that it was made on. Methods raise EventBackendError.

    Args:
        connection: to the servers.
        bus, api: whose events they are.

    """

    def __init__(self, connection: NatsConnection, bus: str, api: str) -> None:
        self.places = Places(bus, api)
        self.api = api
        self.records = GroupRecordsBucket(connection, self.places.bucket)
        self._connection = connection
        self._opening = asyncio.Lock()
        self._is_open = False
        self._newest = 0
        self._followers: list[Callable[[EventTopic | None, int], None]] = []
        self._looking: asyncio.Task[None] | None = None

    def follow(self, news: Callable[[EventTopic | None, int], None]) -> Callable[[], None]:
        """Call back with the topic and sequence of each new event (None: any topic); return what ends that."""
        self._followers.append(news)
        return lambda: self._followers.remove(news)

    async def opened(self) -> JetStreamContext:
        """Return the server's side, where the stream is, made if there is none."""
        jetstream = await self._connection.jetstream()
        async with self._opening:
            if not self._is_open:
                with self._connection.explained():
                    await self._find_or_make(jetstream)
                    await self._hear_news(jetstream)
                await self.records.open(jetstream)
                self._looking = asyncio.get_running_loop().create_task(self._keep_looking())
                self._is_open = True
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
                duplicate_window=min(DUPLICATES_WITHIN, settings.max_age or DUPLICATES_WITHIN),
            )
            await jetstream.add_stream(config)
            return
        if info.config.subjects != [f"{places.prefix}.>"]:
            raise EventBackendError(
                f"The stream {places.stream} has the subjects {info.config.subjects}, and those of {self.api} are "
                f"{places.prefix}.>: it was made for something else. It is left as it is; remove it, or rename the bus."
            )

    async def _hear_news(self, jetstream: JetStreamContext) -> None:
        await jetstream.subscribe(
            f"{self.places.prefix}.>",
            stream=self.places.stream,
            cb=self._on_news,
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW, headers_only=True),
        )

    async def _on_news(self, message: Msg) -> None:
        topic, _ = self.places.topic_of(message.subject)
        self._tell(topic, message.metadata.sequence.stream)

    def _tell(self, topic: EventTopic | None, sequence: int) -> None:
        self._newest = max(self._newest, sequence)
        for follower in list(self._followers):
            follower(topic, sequence)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                head = await self.head()
            except EventBackendError:
                continue  # it is said where somebody wants something
            if head > self._newest:
                self._tell(None, head)

    async def close(self) -> None:
        """Leave nothing running."""
        self.records.close()
        if self._looking is not None:
            self._looking.cancel()

    # What is there

    async def head(self) -> int:
        """Return the newest sequence."""
        jetstream = await self.opened()
        with self._connection.explained():
            return int((await jetstream.stream_info(self.places.stream)).state.last_seq)

    async def bounds(self) -> tuple[int, int]:
        """Return the oldest and the newest sequence."""
        jetstream = await self.opened()
        with self._connection.explained():
            state = (await jetstream.stream_info(self.places.stream)).state
        return int(state.first_seq), int(state.last_seq)

    async def topics(self) -> set[EventTopic]:
        """Return the topics that have events."""
        jetstream = await self.opened()
        with self._connection.explained():
            info = await jetstream.stream_info(self.places.stream, subjects_filter=">")
        return {self.places.topic_of(subject)[0] for subject in info.state.subjects or {}}

    async def publish(self, event: OutgoingEvent, only: str = ALL) -> int:
        """Keep an event; return its sequence. Repeated where it is unclear: it is known by its id."""
        jetstream = await self.opened()
        headers = {"Nats-Msg-Id": event.id, PUBLISHED_AT: repr(event.published_at)}
        subject = self.places.subject(event.topic, only)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._connection.explained():
                    acked = await jetstream.publish(subject, event.record, stream=self.places.stream, headers=headers)
                    return int(acked.seq)
            except EventBackendError:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def read(self, subject: str, first: int, limit: int) -> tuple[list[tuple[StoredEvent, str]], int]:
        """Return the events of subjects from a sequence on, each with whom it is for, and through where that goes."""
        jetstream = await self.opened()
        with self._connection.explained():
            found, through = await self._read(jetstream, subject, max(1, first), limit)
        return [self._stored(message) for message in found], through

    async def _read(self, jetstream: JetStreamContext, subject: str, first: int, limit: int) -> tuple[list[Msg], int]:
        stream = self.places.stream
        head = (await jetstream.stream_info(stream)).state.last_seq
        consumer = await jetstream.add_consumer(
            stream,
            ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=first,
                ack_policy=AckPolicy.NONE,
                filter_subject=subject,
                inactive_threshold=IDLE,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        wanted = min(limit, consumer.num_pending or 0)
        found: list[Msg] = []
        try:
            if wanted:
                pull = await jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)
                try:
                    while len(found) < wanted:
                        found += await pull.fetch(wanted - len(found), timeout=READ_TIMEOUT)
                finally:
                    await pull.unsubscribe()
        finally:
            await jetstream.delete_consumer(stream, consumer.name)
        last = found[-1].metadata.sequence.stream if found else 0
        return found, last if len(found) == limit else max(head, last)

    async def count(self, subject: str, first: int) -> int:
        """Return how many events of subjects there are from a sequence on."""
        jetstream = await self.opened()
        with self._connection.explained():
            consumer = await jetstream.add_consumer(
                self.places.stream,
                ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=max(1, first),
                    ack_policy=AckPolicy.NONE,
                    filter_subject=subject,
                    inactive_threshold=IDLE,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            await jetstream.delete_consumer(self.places.stream, consumer.name)
        return int(consumer.num_pending or 0)

    async def find(self, sequence: int) -> StoredEvent | None:
        """Return an event, if it is kept."""
        jetstream = await self.opened()
        with self._connection.explained():
            try:
                message = await jetstream.get_msg(self.places.stream, sequence)
            except NotFoundError:
                return None
        topic, _ = self.places.topic_of(message.subject or "")
        return StoredEvent(sequence, topic, message.data or b"", _published_at(message.headers))

    def _stored(self, message: Msg) -> tuple[StoredEvent, str]:
        topic, only = self.places.topic_of(message.subject)
        sequence = message.metadata.sequence.stream
        return StoredEvent(sequence, topic, message.data, _published_at(message.headers)), only

    async def newest(self, event: str, *, start: float | None, stop: float | None, limit: int) -> Sequence[StoredEvent]:
        """Return the newest events between two times, in order."""
        oldest, upto = await self.bounds()
        found: list[StoredEvent] = []
        subject = f"{self.places.prefix}.{event}.*.{ALL}"
        while upto >= oldest and len(found) < limit:
            first = max(oldest, upto - MANY + 1)
            events, _ = await self.read(subject, first, upto - first + 1)
            within = [each for each, _ in events if each.sequence <= upto and _is_within(each, start, stop)]
            found = [*within, *found]
            if start is not None and events and all(each.published_at < start for each, _ in events):
                break
            upto = first - 1
        return found[-limit:]


def _is_within(event: StoredEvent, start: float | None, stop: float | None) -> bool:
    return (start is None or event.published_at >= start) and (stop is None or event.published_at <= stop)


def _published_at(headers: dict[str, Any] | None) -> float:
    try:
        return float((headers or {})[PUBLISHED_AT])
    except (KeyError, ValueError):
        return 0.0
