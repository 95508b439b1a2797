"""A listener's subscription at an event backend: puts events into its queue, and sends its acknowledgements.

For the listener it is one more publisher: events wait in a `Stream` for each topic, as those of journals do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from ...core.ordering import Order, Watermark
from ...core.streams import Entry, Stream
from ...exceptions import EventBackendError
from ...ports.events import EventBackend, EventPage, EventSubscription, EventTopic, SubscriptionRequest, TopicState
from ...recurring import RecurringLog
from ..listening.listener_queue import ListenerQueue
from ..listening.loss_reports import LossReports
from .backend_acks import AGAIN_AFTER, BackendAcks, topic_of

__all__ = ["BackendSource"]

logger = logging.getLogger("lightbus.listeners")

T = TypeVar("T")

PAGE = 500
"""Events requested at a time."""

ERROR_LENGTH = 10_000


class BackendSource:
    """
    One listener at one backend. Only touched from the node's loop.

    Args:
        backend: the event backend.
        queue: the listener's queue.
        request: the API, events and group of the subscription.
        losses: reports events that were deleted before the group got them.

    """

    publisher = ""
    """The publisher of an event is not known here."""

    def __init__(
        self, backend: EventBackend, queue: ListenerQueue, request: SubscriptionRequest, losses: LossReports
    ) -> None:
        self.backend = backend
        self.queue = queue
        self.request = request
        self._losses = losses
        self._store = backend.store(request.api)
        self._subscription: EventSubscription | None = None
        self._order: Order[Stream] | None = Order() if queue.listener.concurrency == 1 else None
        self._watermark = Watermark()
        """The sequence up to which all topics are known: events of a page after it wait for the other topics."""
        self._streams: dict[EventTopic, Stream] = {}
        self._releasing: set[Stream] = set()
        """Streams of revoked partitions with an event still in progress: these are given back afterwards."""
        self._revoked_early: frozenset[int] = frozenset()
        """Partitions to give back as soon as `subscribe` has returned."""
        self._acks = BackendAcks(queue, self._failed)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = RecurringLog(logger)
        self._closed = False

    # Life cycle

    async def start(self) -> None:
        """Join the group; if that fails, return, and try again in the background."""
        try:
            await self._subscribe()
        except EventBackendError as error:
            self._failed(error)
            self._spawn(self._subscribe_later())

    async def _subscribe(self) -> None:
        self._revoked_early = frozenset()
        subscription = await self.backend.subscribe(self.request, self)
        if self._closed:
            await subscription.close()
        else:
            self._subscription = subscription
            self._acks.open(subscription)
            for stream in list(self._streams.values()):  # reported before `subscribe` returned
                self.fetch_more(stream)
            if self._revoked_early:
                self._give_back(self._revoked_early)

    async def _subscribe_later(self) -> None:
        while self._subscription is None:
            await asyncio.sleep(AGAIN_AFTER)
            try:
                await self._subscribe()
            except Exception as error:  # whatever a backend raises: nobody awaits this task
                self._failed(error)

    async def close(self) -> None:
        """Acknowledge the handled events, and leave the group. Call it after the listener has stopped."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        streams, self._streams = self._streams, {}
        is_done = not any(stream.in_progress for stream in [*streams.values(), *self._releasing])
        for stream in streams.values():
            self.queue.forget(stream)
        await self._acks.stop()
        if (subscription := self._subscription) is not None:
            try:
                await self._acks.send({*streams.values(), *self._releasing})
            except Exception as error:
                self._failed(error)
            try:  # in any case, or this process would keep the partitions, and nobody would get their events
                await subscription.close(is_done=is_done)
            except EventBackendError as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        text = "The listener %s gets no events from its event backend at the moment, and keeps trying: %s"
        if isinstance(error, EventBackendError):
            self._failures.log("backend", logging.WARNING, text, self.queue.listener, error)
        else:
            self._failures.log("error", logging.ERROR, text, self.queue.listener, repr(error), exc_info=error)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Callbacks of the backend

    def follow(self, states: Sequence[TopicState]) -> None:
        """Record the positions and heads of our topics."""
        for topic, cursor, head, begun in states:
            stream = self._streams.get(topic)
            if stream is None:
                stream = self._streams[topic] = Stream(
                    (self._store, *topic),
                    self,
                    cursor=cursor,
                    head=head,
                    possibly_delivered=begun,
                    order=self._order,
                    watermark=self._watermark,
                )
            else:
                stream.note_head(head)
            self.fetch_more(stream)
        if self._order is not None and states:
            self._watermark.answered(max(state.head for state in states))
            self.queue.queue(self._order)

    def revoke(self, partitions: frozenset[int]) -> None:
        """Deliver no more events of these partitions; give them back once their events in progress are finished."""
        leaving = [stream for topic, stream in self._streams.items() if topic.partition in partitions]
        for stream in leaving:
            del self._streams[topic_of(stream)]
            self.queue.forget(stream)
        self._releasing.update(stream for stream in leaving if stream.in_progress)
        self._acks.to_send.update(leaving)
        # Also without those whose event is in progress since an earlier time: they were ours again meanwhile.
        self._give_back(partitions.difference(topic_of(stream).partition for stream in self._releasing))

    def _give_back(self, partitions: frozenset[int]) -> None:
        async def release(subscription: EventSubscription) -> None:
            while True:
                try:
                    await self._acks.send(())  # not `flush`: it goes on for as long as other partitions are busy
                    return await subscription.release(partitions)
                except Exception as error:  # as of a fetch
                    self._failed(error)
                    await asyncio.sleep(AGAIN_AFTER)

        if self._subscription is None:
            self._revoked_early |= partitions
        elif partitions and not self._closed:
            self._spawn(release(self._subscription))

    # Fetching

    def fetch_more(self, stream: Stream) -> None:
        """Request more events of a topic, if there are more and few are queued."""
        if not self._has(stream) or self._subscription is None:
            return
        if stream.order is not None:
            stream.order.note(stream)
        if self.queue.is_full and (stream.ready or stream.order is None):
            self.queue.fetch_once_room(stream)
        elif (after := stream.wanted()) is not None:
            self._spawn(self._fetch(self._subscription, stream, after))

    async def _fetch(self, subscription: EventSubscription, stream: Stream, after: int) -> None:
        try:
            page = await subscription.fetch(topic_of(stream), after, PAGE)
        except Exception as error:  # whatever a backend raises: nobody awaits this task
            self._failed(error)
            stream.request_failed()
            self.queue.requeue(stream)
            self._loop.call_later(AGAIN_AFTER, self.fetch_more, stream)
            return
        if self._has(stream):
            self._take(stream, page, after)

    def _take(self, stream: Stream, page: EventPage, after: int) -> None:
        rows = []
        for sequence, record in page.events:
            rows.append(Entry(sequence, after, record))
            after = sequence
        size = stream.size
        taken = stream.page(rows, page.through, trimmed=page.lost)
        if page.lost:
            self._note_lost(stream, page.lost)
        self.queue.ready(stream, max(0, taken), stream.size - size)
        if stream.is_ack_due:
            self._acks.mark(stream)
        if page.events or page.through > after:
            self.fetch_more(stream)
        else:  # the partition was probably revoked, which will be reported soon
            self._loop.call_later(AGAIN_AFTER, self.fetch_more, stream)

    def _note_lost(self, stream: Stream, count: int) -> None:
        request = self.request
        where, remedy = "the event backend", "Have it keep more (apis.<name>.events)"
        self._losses.deleted(request.api, topic_of(stream).event, request.group, where, count, remedy=remedy)

    # Handled events

    def ack(self, stream: Stream) -> None:
        """Acknowledge the handled events of a stream soon."""
        self._acks.mark(stream)

    def after_turn(self, stream: Stream) -> None:
        """Fetch more of a stream after its turn; if it was revoked, record that it is finished."""
        if self._has(stream):
            self.fetch_more(stream)
        else:
            self._finished(stream)

    def retry(self, stream: Stream) -> None:
        """Deliver an event that was put back to the group again."""
        if self._has(stream):
            self._loop.call_later(AGAIN_AFTER, self.fetch_more, stream)
        else:
            self._finished(stream)

    def was_handled(self, key: Any, sequence: int) -> None:
        """Record that a topic was handled up to this sequence by another source."""
        stream = self._streams.get(EventTopic(*key[1:]))
        if stream is not None and stream.key == key and sequence > stream.handled:
            self.queue.skip(stream, sequence)
            self._acks.mark(stream)
            self.queue.requeue(stream)

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """Count a delivery that is about to begin; return its number, 0 if the event is not ours any more."""
        if not self.request.group or self._subscription is None:
            return at_least
        beginning = self._subscription.begin(topic_of(stream), entry.sequence, at_least)
        return await self._until_answered(beginning, 0)

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Store an event as a dead letter with its error; return whether it is stored."""
        if not self.request.group or self._subscription is None:
            return True
        text = error[:ERROR_LENGTH]
        keeping = self._subscription.dead_letter(topic_of(stream), entry.sequence, deliveries, text)
        return await self._until_answered(keeping, False)

    async def _until_answered(self, asking: Coroutine[Any, Any, T], otherwise: T) -> T:
        try:
            return await asking
        except Exception as error:  # whatever a backend raises: else the listener would end
            self._failed(error)
            return otherwise

    def _finished(self, stream: Stream) -> None:
        """Record that the last event in progress of a revoked stream is finished."""
        self.was_handled(stream.key, stream.handled)  # if its partition is ours again, another stream has its events
        if stream in self._releasing:
            self._releasing.remove(stream)
            partition = topic_of(stream).partition
            if partition not in {topic.partition for topic in [*self._streams, *map(topic_of, self._releasing)]}:
                self._give_back(frozenset({partition}))

    def _has(self, stream: Stream) -> bool:
        return not self._closed and self._streams.get(topic_of(stream)) is stream
