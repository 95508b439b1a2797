"""The streams that one listener follows at one publisher: fetches missing events, acknowledges, releases partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from ...core.streams import Entry, LiveStream, Stream
from ...wire.envelope import Ack, Acked, AnyMessage, Fetch, Page, Reject, Release, Start, Started
from ...wire.sizes import placeholder
from ..groups.group_records import MAX_POSITIONS, TopicKey
from .ack_collector import AckCollector
from .assignment import Assignment
from .consumer_context import ConsumerContext
from .listener_queue import ListenerQueue
from .publisher_requests import PublisherRequests

__all__ = ["FollowedStreams"]

PAGE = 500
"""Events requested at a time."""

FETCH_AGAIN_AFTER = 0.5
"""Seconds after which an event that was put back is fetched again."""


class FollowedStreams:
    """
    The streams of one listener at one publisher; it is their `owner`. Only touched from the node's loop.

    Args:
        assignment: our assignment at this publisher.
        queue: the listener's queue of ready events.
        requests: sends requests to the publisher.
        acks: collects acknowledgements.
        context: shared state of the process.
        not_a_member: called when the publisher does not know us as a member of the group.

    Attributes:
        streams: the streams by journal, event and partition.
        publisher: the publisher's instance.

    """

    def __init__(
        self,
        assignment: Assignment,
        queue: ListenerQueue,
        requests: PublisherRequests,
        acks: AckCollector,
        context: ConsumerContext,
        not_a_member: Callable[[], None],
    ) -> None:
        self.streams: dict[TopicKey, Stream] = {}
        self.publisher = requests.peer.instance
        self.not_a_member = not_a_member
        self.give_turn = queue.requeue
        """Queues a stream for its next turn, if more of its events may be delivered now."""
        self._assignment = assignment
        self._queue = queue
        self._requests = requests
        self._acks = acks
        self._context = context
        self.ack = acks.add if assignment.group else _confirm_at_once
        """Acknowledges the handled events of a stream soon."""
        self._releasing: set[Stream] = set()
        """Revoked streams with an event still in progress: their partitions are given back afterwards."""
        queue.sources.add(self)

    @property
    def partitions(self) -> list[int]:
        """The partitions that we have not given back."""
        return sorted(self._assignment.partitions.union(stream.key[2] for stream in self._releasing))

    @property
    def is_busy(self) -> bool:
        """Whether an event of any stream is in progress, also of a revoked one."""
        return bool(self._releasing) or any(stream.in_progress for stream in self.streams.values())

    @property
    def live_streams(self) -> Iterable[LiveStream]:
        """The streams of best effort, whose waiting events are in no journal."""
        return [stream for stream in self.streams.values() if isinstance(stream, LiveStream)]

    def owns(self, stream: Stream) -> bool:
        """Return whether a stream is (still) followed for this listener."""
        return self.streams.get(stream.key) is stream

    # Missing events

    def fetch_more(self, stream: Stream) -> None:
        """Request more events of a topic, if there are more and few are queued."""
        if not self.owns(stream):
            return
        if stream.order is not None:
            stream.order.note(stream)
        if self._queue.is_full and (stream.ready or stream.order is None):  # else other streams wait for this one
            self._queue.fetch_once_room(stream)
            return
        after = stream.wanted()
        if after is not None:
            journal, event, partition = stream.key
            limit = self._requests.max_message_size
            message = Fetch(self._assignment.api, journal, event, partition, after, PAGE, limit)
            self._requests.ask(
                lambda: message if self.owns(stream) else None, lambda answer: self._on_page(stream, answer)
            )

    def _on_page(self, stream: Stream, answer: AnyMessage | None) -> None:
        if not isinstance(answer, Page):
            stream.request_failed()
            self._queue.requeue(stream)
            return
        if not self.owns(stream):
            return
        size, trimmed, before = stream.size, stream.trimmed, (stream.position, stream.head)
        records = [row if type(row[2]) is bytes else [row[0], row[1], placeholder(row[2])] for row in answer.records]
        count = stream.page(records, answer.through, trimmed=answer.trimmed)
        self._context.counts["fetched"] += len(answer.records)
        if stream.trimmed > trimmed:
            assignment, publisher = self._assignment, self._requests.peer.announcement
            lost = stream.trimmed - trimmed
            self._context.losses.deleted(assignment.api, stream.key[1], assignment.group, publisher, lost)
        if answer.more:
            stream.note_head(answer.through + 1)
        self._queue.ready(stream, max(0, count), stream.size - size)
        self.ack(stream)
        if count or (stream.position, stream.head) != before or answer.through > stream.position:
            self.fetch_more(stream)
        # else there are no such events, whatever was reported: the next ticks fetch again, a few times

    def tick(self) -> None:
        """Fetch missing events again, and repeat unconfirmed acknowledgements."""
        for stream in list(self.streams.values()):
            if stream.head > stream.position:
                self.fetch_more(stream)
            if stream.is_ack_due:
                self.ack(stream)

    # Handled events

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """Count a delivery that is about to begin; return its number, 0 if the event is not ours any more."""
        assignment = self._assignment
        if not assignment.group:
            return at_least
        journal, event, partition = stream.key
        group = (assignment.api, assignment.group, assignment.generation)
        message = Start(*group, journal, event, partition, entry.sequence, at_least)
        self._acks.flush()
        records, about = self._context.records, (assignment.api, assignment.group, stream.key, entry.sequence)
        number = records.take_start(*about) or next(self._requests.numbers)
        answer = await self._ask(stream, message, number)
        if answer is None:  # maybe counted: the next server of the journal recognises the request by its number
            records.start_unanswered(*about, number)
        return answer.deliveries if isinstance(answer, Started) else 0

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Store an event as a dead letter with its error; return whether it is stored."""
        assignment = self._assignment
        if not assignment.group:
            return True
        journal, event, partition = stream.key
        group = (assignment.api, assignment.group, assignment.generation)
        message = Reject(*group, journal, event, partition, entry.sequence, deliveries, error[:10_000])
        answer = await self._ask(stream, message)
        return isinstance(answer, Acked) and not answer.refused

    async def _ask(self, stream: Stream, message: AnyMessage, number: int = 0) -> AnyMessage | None:
        # Repeated under its number, by which the publisher recognises a repetition.
        answer: asyncio.Future[AnyMessage | None] = asyncio.get_running_loop().create_future()

        def answered(message: AnyMessage | None) -> None:
            if not answer.done():
                answer.set_result(message)

        self._requests.ask(lambda: message if self.owns(stream) else None, answered, is_urgent=True, number=number)
        return await answer

    def after_turn(self, stream: Stream) -> None:
        """Fetch more of a stream after its turn; if it was revoked, record that it is finished."""
        if stream.ready and stream.head <= stream.position:
            return  # the usual case; waiting events of a revoked stream were dropped
        if self.streams.get(stream.key) is not stream:
            self._finished(stream)
        else:
            self.fetch_more(stream)

    def retry(self, stream: Stream) -> None:
        """Fetch an event again that was put back; if the stream was revoked, leave it to the new owner."""
        if self.owns(stream):
            asyncio.get_running_loop().call_later(FETCH_AGAIN_AFTER, self.fetch_more, stream)
        else:
            self._finished(stream)

    def was_handled(self, key: TopicKey, sequence: int) -> None:
        """Record that a topic was handled up to this sequence by an earlier stream."""
        stream = self.streams.get(key)
        if stream is None or isinstance(stream, LiveStream):  # of best effort nothing comes a second time
            return
        if sequence > stream.handled:
            self._queue.skip(stream, sequence)
            self.ack(stream)
            self._queue.requeue(stream)

    # Acknowledgements

    def ack_message(self, positions: list[Any]) -> Ack:
        """Return the message that acknowledges these positions."""
        assignment = self._assignment
        return Ack(assignment.api, assignment.group, assignment.generation, positions)

    # Revoked partitions

    def release(self, partitions: frozenset[int]) -> None:
        """Deliver no more events of these partitions; give them back once their events in progress are finished."""
        leaving = [stream for key, stream in self.streams.items() if key[2] in partitions]
        self._queue.live_positions.forget(self.publisher, partitions)
        for stream in leaving:
            del self.streams[stream.key]
            self._forget(stream)
            if stream.in_progress:
                self._releasing.add(stream)
        # Also without those whose event is in progress since an earlier time: they were ours again meanwhile.
        self._give_back(partitions.difference(stream.key[2] for stream in self._releasing))

    def _finished(self, stream: Stream) -> None:
        """Record that the last event in progress of a revoked stream is finished."""
        self.was_handled(stream.key, stream.handled)  # if its partition is ours again, another stream has its events
        if stream in self._releasing:
            self._releasing.remove(stream)
            self._give_back(frozenset({stream.key[2]}).difference(self.partitions))
        else:
            self._remember(stream)

    def _give_back(self, partitions: frozenset[int]) -> None:
        assignment = self._assignment
        if assignment.group and partitions:
            self._acks.flush()  # acknowledgements first, on the same connection
            message = Release(assignment.api, assignment.group, assignment.generation, sorted(partitions))
            self._requests.send(message)

    def drop_all(self) -> None:
        """Stop delivering; keep the positions for the process that serves these journals next."""
        self._releasing.clear()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            if isinstance(stream, LiveStream):  # before its waiting events are dropped: they do not count as missed
                self._queue.live_positions.note(self.publisher, stream.key, stream.position)
            self._forget(stream)
            if not stream.in_progress:
                self._remember(stream)

    def add_live(self, key: TopicKey) -> LiveStream:
        """Follow a topic of best effort: from our last position, or from now on if the partition was given back."""
        stream = LiveStream(key, self, position=self._queue.live_positions.take(self.publisher, key))
        self.streams[key] = stream
        return stream

    def _forget(self, stream: Stream) -> None:
        """Deliver no more events of a stream. Waiting events of best effort are lost, and counted as dropped."""
        if isinstance(stream, LiveStream):
            self._queue.counts["dropped"] += len(stream.ready)
        self._queue.forget(stream)

    def _remember(self, stream: Stream) -> None:
        """Record the position of a stream, also for this listener's streams at other publishers."""
        if isinstance(stream, LiveStream):
            return
        assignment, key, handled = self._assignment, stream.key, stream.handled
        if not assignment.group:
            positions = self._queue.positions
            positions[key] = max(handled, positions.pop(key, 0))
            if len(positions) > MAX_POSITIONS:  # the journals of ended processes are deleted in the end
                del positions[next(iter(positions))]
            return
        self._context.records.remember(assignment.api, assignment.group, key, handled)
        for other in list(self._queue.sources - {self}):
            other.was_handled(key, handled)

    def close(self) -> None:
        """Remove this source from the listener's queue."""
        self._queue.sources.discard(self)


def _confirm_at_once(stream: Stream) -> None:
    """Mark the handled events of a listener without a group as acknowledged: nothing is sent."""
    told = stream.next_ack()
    if told is not None:
        stream.ack_confirmed(told)
