"""Adds the events of a publisher's messages to the streams that one listener follows there.

A lost message is noticed by a later one: each names the previous event of its topic, and the heads of topics are sent
from time to time (HEAD, STREAMS). Missing events are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core.streams import LiveStream, Stream
from ...wire.envelope import AnyMessage, Events, Head, Open, Streams
from ..groups.group_records import TopicKey
from .assignment import Assignment, Pair
from .consumer_context import ConsumerContext
from .followed_streams import FollowedStreams
from .listener_queue import MAX_QUEUED, ListenerQueue
from .publisher_requests import PublisherRequests
from .sorting import Sorting

__all__ = ["StreamIntake"]

CATCH_UP_EVERY = 30.0
"""Seconds after which the positions are fetched even if there seems to be nothing new."""


class StreamIntake:
    """
    Receives the events of one publisher for one listener. Only touched from the node's loop.

    Args:
        assignment: our assignment at this publisher, and the followed topics.
        followed: the streams.
        queue: the listener's queue of ready events.
        requests: sends requests to the publisher.
        context: shared state of the process.

    """

    def __init__(
        self,
        assignment: Assignment,
        followed: FollowedStreams,
        queue: ListenerQueue,
        requests: PublisherRequests,
        context: ConsumerContext,
    ) -> None:
        self._assignment = assignment
        self._followed = followed
        self._queue = queue
        self._requests = requests
        self._losses = context.losses
        self._sorting = Sorting() if queue.listener.is_in_order else None
        """Set if one event is handled at a time, across partitions."""
        self._early: dict[TopicKey, int] = {}
        """The newest published events of topics that are not followed yet."""
        self._is_asking = False
        self._edition = 0
        """The latest edition of messages to all members (see `GroupMembers.edition`) that we know completely."""
        self._is_catching_up = False
        self._caught_up_at = requests.now()

    # Published messages

    def on_events(self, event: str, partition: int, message: Events) -> None:
        """Put published events of a topic into its stream."""
        if partition not in self._assignment.partitions:
            return  # for another listener of this process
        records = message.records
        key = (message.journal, event, partition)
        stream = self._followed.streams.get(key)
        if stream is not None or (stream := self._unknown(key, records[-1][0])) is not None:
            if type(stream) is LiveStream:
                self._on_live(stream, records)
            elif self._queue.is_full:
                stream.note_head(records[-1][0])
                self._queue.fetch_once_room(stream)
            else:
                size = stream.size
                if count := stream.live(records):
                    self._queue.ready(stream, count, stream.size - size)
            if stream.head > stream.position:
                self._followed.fetch_more(stream)
        if self._sorting is not None and message.journal:
            self._order(self._sorting, message.journal, event, message.follows, message.complete)

    def _on_live(self, stream: LiveStream, records: Sequence[Any]) -> None:
        """Put events of best effort into their stream, and drop those that there is no room for."""
        room = max(0, MAX_QUEUED - self._queue.backlog)
        size, missed = stream.size, stream.missed
        count = stream.live(records[:room])
        if len(records) > room:
            stream.refused(records[room:])
            self._queue.drop(len(records) - room)
        self._count_missed(stream, missed)
        if count:
            self._queue.ready(stream, count, stream.size - size)

    def _count_missed(self, stream: LiveStream, before: int) -> None:
        """Report newly missed events of a topic."""
        if count := stream.missed - before:
            self._queue.counts["dropped"] += count
            self._losses.missed(self._assignment.api, stream.key[1], self._requests.peer.announcement, count)

    def on_head(self, event: str, partition: int, message: Head) -> None:
        """Fetch missing events, given the newest event of a topic."""
        if partition not in self._assignment.partitions:
            return
        journal, sequence = message.journal, message.sequence
        if not journal:
            self._on_live_head(event, partition, sequence)
            return
        if self._sorting is not None:
            bounds = (message.follows, message.complete) if message.complete else (sequence, sequence)
            self._order(self._sorting, journal, event, *bounds)
        key = (journal, event, partition)
        stream = self._followed.streams.get(key) or self._unknown(key, sequence)
        if stream is not None:
            stream.note_head(sequence)
            if stream.head > stream.position:
                self._followed.fetch_more(stream)

    def _on_live_head(self, event: str, partition: int, sequence: int) -> None:
        """Count missed events of best effort, given the newest event of a topic."""
        key = ("", event, partition)
        stream = self._followed.streams.get(key) or self._unknown(key, sequence)
        if isinstance(stream, LiveStream):
            missed = stream.missed
            stream.note_head(sequence)
            self._count_missed(stream, missed)

    def on_streams(self, message: Streams) -> None:
        """Follow topics from the reported positions, and fetch missing events."""
        followed = self._followed
        for journal, event, partition, cursor, head, possibly_delivered in message.streams:
            key = (journal, event, partition)
            if (stream := followed.streams.get(key)) is not None:
                stream.note_head(head)
            elif (event, partition) in self._assignment.followed:
                cursor = max(cursor, self._queue.positions.get(key, 0))
                stream = self._follow(key, cursor, head, possibly_delivered)
                stream.note_head(self._early.pop(key, 0))
            else:
                continue
            followed.fetch_more(stream)
        self._follow_early()
        if self._sorting is not None:
            self._sorting.on_streams(message)
            self._hand_out(self._sorting)

    def _follow_early(self) -> None:
        """Follow topics that began after the positions were read, and had events before these arrived here."""
        for key in [key for key in self._early if key[1:] in self._assignment.followed]:
            stream = self._follow(key, head=self._early.pop(key))
            self._followed.fetch_more(stream)

    def _unknown(self, key: TopicKey, newest: int) -> Stream | None:
        """Return a stream for a topic that began after the positions were fetched; None if it is not followed yet."""
        if not key[0]:
            return self._followed.add_live(key)
        if key[1:] in self._assignment.followed:
            return self._follow(key)
        self._early[key] = newest
        return None

    def _follow(self, key: TopicKey, cursor: int = 0, head: int = 0, possibly_delivered: int = 0) -> Stream:
        journal, event, _ = key
        order, watermark = (None, None) if self._sorting is None else self._sorting.place(journal, event)
        stream = self._followed.streams[key] = Stream(
            key,
            self._followed,
            cursor=cursor,
            head=head,
            possibly_delivered=possibly_delivered,
            order=order,
            watermark=watermark,
        )
        return stream

    # Order across topics

    def _order(self, sorting: Sorting, journal: str, event: str, follows: int, complete: int) -> None:
        """Record how a message follows earlier ones, for the order across topics."""
        if sorting.published(journal, event, follows, complete):
            self._hand_out(sorting)
        elif sorting.lacks:
            self.ask_for_missing()

    def _hand_out(self, sorting: Sorting) -> None:
        """Queue all orders: more of their events may be deliverable now."""
        for order in sorting.orders:
            self._queue.queue(order)

    def ask_for_missing(self) -> None:
        """Fetch the positions of all topics if a message of an unknown topic was lost."""
        sorting, assignment = self._sorting, self._assignment
        if sorting is None or not sorting.lacks or self._is_asking or not assignment.is_complete:
            return

        def message() -> Open | None:
            made = assignment.question(assignment.followed, self._requests.max_message_size)
            # A topic that we do not know yet began after our first request: we get all of its events.
            return made if made is None or assignment.group else made._replace(since="0")

        def answered(answer: AnyMessage | None) -> None:
            self._is_asking = False
            if isinstance(answer, Streams):
                self.on_streams(answer)
            if sorting.lacks:
                sorting.failed()  # the next tick asks again
                self._hand_out(sorting)

        self._is_asking = True
        self._requests.ask(message, answered)

    # Messages to all members

    def catch_up(self, edition: int) -> None:
        """Fetch the positions if we may have missed a message to all members, given its edition, or after a while."""
        pairs = self._assignment.followed
        is_due = edition != self._edition or self._requests.now() - self._caught_up_at > CATCH_UP_EVERY
        if is_due and pairs and not self._is_catching_up:
            self._is_catching_up = True
            self._catch_up_with(set(pairs), edition)

    def _catch_up_with(self, pairs: set[Pair], edition: int) -> None:
        assignment = self._assignment

        def answered(answer: AnyMessage | None) -> None:
            if isinstance(answer, Streams):
                self.on_streams(answer)
                rest = {pair for pair in pairs & assignment.followed if pair[1] not in answer.partitions}
                if rest and answer.partitions:
                    self._catch_up_with(rest, edition)
                    return
                self._edition, self._caught_up_at = edition, self._requests.now()
            self._is_catching_up = False

        self._requests.ask(
            lambda: assignment.question(pairs & assignment.followed, self._requests.max_message_size), answered
        )

    # Our assignment

    def assigned(self) -> None:
        """Record that our partitions have changed."""
        if self._sorting is not None:
            self._sorting.assigned(self._assignment.partitions)

    def clear(self) -> None:
        """Drop all state of streams that are not followed any more."""
        self._early.clear()
        if self._sorting is not None:
            self._sorting.clear()
