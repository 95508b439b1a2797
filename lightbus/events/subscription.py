"""A listener at one publisher: which partitions it has there, and the streams it follows in them.

The order of things is what makes it miss nothing: join the group, be assigned partitions, subscribe to them, await the
marker, and only then ask where each topic stands. What comes live meanwhile is behind that, or is found to be missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.streams import Entry, LiveStream, Stream
from ..wire import envelope
from ..wire.envelope import (
    PARTITIONS,
    Acked,
    Assign,
    Bury,
    Error,
    Events,
    Fetch,
    Head,
    Join,
    Message,
    Open,
    Page,
    Release,
    Start,
    Started,
    Streams,
)
from ..wire.sizes import most, stand_in
from .listener_queue import MAX_QUEUED, ListenerQueue
from .sorting import Sorting

if TYPE_CHECKING:
    from .publisher_connection import PublisherConnection

__all__ = ["Key", "Subscription"]

logger = logging.getLogger("lightbus.consuming")

Key: TypeAlias = tuple[str, str, int]
"""Journal (empty: none, best effort), event, partition."""

PAGE = 500
"""Events asked for at a time."""

POSITION_BYTES = 1024
"""Bytes of one of the positions that a JOIN tells, at most."""

JOIN_AGAIN_AFTER = 0.5
"""Seconds between two attempts to join a group at a publisher that refuses."""

CATCH_UP_EVERY = 30.0
"""Seconds after which we ask where our topics stand even if there seems to be nothing new."""


class Subscription:
    """
    One listener at one publisher. Only touched from the node's loop.

    Args:
        feed: the connection to the publisher.
        queue: what waits for the listener.
        group: the group's name; empty for a listener that shares with nobody.

    """

    def __init__(self, feed: PublisherConnection, queue: ListenerQueue, group: str) -> None:
        self.feed = feed
        self.queue = queue
        self.group = group
        self.api = queue.listener.api
        self.publisher = feed.peer.instance
        self.generation = 0
        self.partitions: frozenset[int] = frozenset()
        self.events: tuple[str, ...] = ()
        self.streams: dict[Key, Stream] = {}
        self.live_at: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done as soon as everything that was assigned first is followed."""
        self._open: set[tuple[str, int]] = set()
        """The (event, partition) pairs that are followed."""
        self._asking: dict[tuple[str, int], object] = {}
        """Those that are about to be, each with the attempt that it belongs to."""
        self._early: dict[Key, int] = {}
        self._releasing: dict[Stream, frozenset[int]] = {}
        self._subscribed: set[tuple[str, int]] = set()
        self._sorting = Sorting() if queue.listener.concurrency == 1 else None
        """Where one event is handled at a time, also of different partitions."""
        self._is_asking_where = False
        self._closed = False
        self._is_joining = False
        self._is_outdated = False
        """Whether what is asked for by joining is to be asked for once more."""
        self._refusal = ""
        self._edition = 0
        """Of what all members were to be told of late: the latest that we know all of."""
        self._is_catching_up = False
        self._caught_up_at = self.feed.now()

    @property
    def is_live(self) -> bool:
        """Whether everything that is assigned is followed, and something was."""
        return self.live_at.done() and self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether everything that is assigned is followed."""
        return len(self._open) == len(self.events) * len(self.partitions)

    @property
    def _pairs(self) -> set[tuple[str, int]]:
        """What is assigned, by event and partition."""
        return {(event, partition) for event in self.events for partition in self.partitions}

    @property
    def state(self) -> list[Any]:
        """What we believe to have here: the generation, and the partitions that we have not given back."""
        return [self.generation, sorted(self.partitions.union(*self._releasing.values()))]

    # Joining

    def join(self) -> None:
        """Become a member, or learn anew what we have."""
        if self._closed:
            return
        if self._is_joining:
            self._is_outdated = True
            return
        self._is_joining, self._is_outdated = True, False
        self.feed.ask(self._join_message, self._joined)

    def _join_message(self) -> Join | None:
        if self._closed:
            return None
        consumer, listener = self.feed.consumer, self.queue.listener
        room = most(self.feed.max_message_size, self.feed.peer.announcement.max_message_size) // POSITION_BYTES
        return Join(
            self.publisher,
            self.api,
            self.group,
            list(listener.events),
            consumer.identity.instance,
            consumer.identity.host,
            self.feed.presence,
            consumer.created_at(self.api, self.group),
            time.time(),
            listener.digest,
            listener.since,
            consumer.positions_of(self.api, self.group)[-room:],  # of what is left out some is handled twice
            self.feed.max_message_size,
        )

    def join_again(self) -> None:
        """Give up what we have here, and ask anew: the publisher does not know us any more."""
        if not self._closed:
            self._drop_all()
            self.join()

    def _joined(self, answer: Message | None) -> None:
        self._is_joining = False
        if self._is_outdated:
            self.join()
        elif isinstance(answer, Assign):
            self._refusal = ""
            self.generation = min(self.generation, answer.generation)  # of a group that was made anew they begin anew
            self.assigned(answer)
        elif not self._closed:
            reason = answer.message if isinstance(answer, Error) else "it does not answer"
            if reason != self._refusal:
                self._refusal = reason
                logger.info("%s does not take %s in: %s", self.feed.peer.announcement, self.queue.listener, reason)
            asyncio.get_running_loop().call_later(JOIN_AGAIN_AFTER, self.join)

    def assigned(self, message: Assign) -> None:
        """Take in which partitions are ours now. However often it is said, it is the same."""
        if self._closed or message.generation < self.generation:
            return
        self.generation = message.generation
        self.feed.consumer.learned(self, message)
        partitions, events = frozenset(message.partitions), tuple(message.events)
        gone, before = self.partitions - partitions, self._pairs
        self.partitions, self.events = partitions, events
        self._unsubscribe(before - self._pairs)
        if self._sorting is not None:
            self._sorting.assigned(partitions)
        if gone:
            self._release(gone)
        self._follow()

    # Following what is assigned

    def _follow(self) -> None:
        """Subscribe to what is assigned and not followed yet, and ask where that stands once it is in force."""
        new = self._pairs - self._open - self._asking.keys()
        if new:
            attempt = object()
            self._asking.update(dict.fromkeys(new, attempt))
            self._subscribe(new)
            self.feed.when_marked(lambda: self._ask_where(attempt), lambda: bool(self._attempted(attempt)))
        elif self.is_complete:
            self._now_live()

    def _attempted(self, attempt: object) -> set[tuple[str, int]]:
        """Return what an attempt is about; what was taken from us meanwhile is another matter, even if it came back."""
        return {pair for pair, other in self._asking.items() if other is attempt}

    def _ask_where(self, attempt: object) -> None:
        self.feed.ask(
            lambda: self._open_message(self._attempted(attempt)), lambda answer: self._opened(attempt, answer)
        )

    def _open_message(self, pairs: set[tuple[str, int]]) -> Open | None:
        if not pairs:
            return None
        events = sorted({event for event, _ in pairs})
        partitions = sorted({partition for _, partition in pairs})
        since = None if self.group else self.queue.listener.since
        since = "$" if since is None else since
        return Open(self.api, self.group, self.generation, partitions, events, since, self.feed.max_message_size)

    def _opened(self, attempt: object, answer: Message | None) -> None:
        pairs = self._attempted(attempt)
        for pair in pairs:
            del self._asking[pair]
        if isinstance(answer, Streams):
            # What the publisher does not take for ours, or has no room for, is not in the answer, and asked for again.
            answered = set(answer.partitions)
            self._open |= {pair for pair in pairs if pair[1] in answered}
            self.told_streams(answer)
            if answered or self.is_complete:
                self._follow()
            self._ask_what_is_lacking()
        elif answer is not None and pairs:
            asyncio.get_running_loop().call_later(JOIN_AGAIN_AFTER, self._join_after, self.generation)

    def _join_after(self, generation: int) -> None:
        if self.generation == generation:
            self.join_again()

    def _ask_what_is_lacking(self) -> None:
        """Ask where all topics stand, where something did not arrive of which we do not know the topic."""
        sorting = self._sorting
        if sorting is None or not sorting.lacks or self._is_asking_where or not self.is_complete:
            return

        def message() -> Open | None:
            made = self._open_message(self._open)
            # A topic that we do not know yet began after we had asked first: all of it is ours.
            return made if made is None or self.group else made._replace(since="0")

        def answered(answer: Message | None) -> None:
            self._is_asking_where = False
            if self._closed:
                return
            if isinstance(answer, Streams):
                self.told_streams(answer)
            if sorting.lacks:
                sorting.failed()  # and asked again by the next tick
                self._sorted()

        self._is_asking_where = True
        self.feed.ask(message, answered)

    def _sorted(self) -> None:
        """Hand out what may be handed out by now."""
        if self._sorting is not None:
            for order in self._sorting.orders:
                self.queue.queue(order)

    def catch_up(self, edition: int) -> None:
        """Ask where our topics stand, if the publisher told its members something of that and we may have missed it."""
        is_due = edition != self._edition or self.feed.now() - self._caught_up_at > CATCH_UP_EVERY
        if not is_due or self._is_catching_up or not self._open:
            return

        self._is_catching_up = True
        self._catch_up_with(set(self._open), edition)

    def _catch_up_with(self, pairs: set[tuple[str, int]], edition: int) -> None:
        def answered(answer: Message | None) -> None:
            if isinstance(answer, Streams) and not self._closed:
                self.told_streams(answer)
                rest = {pair for pair in pairs & self._open if pair[1] not in answer.partitions}
                if rest and answer.partitions:
                    self._catch_up_with(rest, edition)
                    return
                self._edition, self._caught_up_at = edition, self.feed.now()
            self._is_catching_up = False

        self.feed.ask(lambda: self._open_message(pairs & self._open), answered)

    def told_streams(self, message: Streams) -> None:
        """Take in where topics stand for us."""
        for journal, event, partition, cursor, head, doubtful in message.streams:
            key = (journal, event, partition)
            if (stream := self.streams.get(key)) is not None:
                stream.heard_of(head)
                self.fetch_more(stream)
            elif (event, partition) in self._open:
                cursor = max(cursor, self.queue.positions.get(key, 0))
                stream = Stream(key, self, cursor=cursor, head=head, doubtful=doubtful)
                stream.heard_of(self._early.pop(key, 0))
                self._add(stream)
                self.fetch_more(stream)
        if self._sorting is not None:
            self._sorting.told(message)
            self._sorted()

    def _add(self, stream: Stream) -> None:
        self.streams[stream.key] = stream
        if self._sorting is not None and stream.key[0]:
            self._sorting.place(stream)

    def _now_live(self) -> None:
        if not self.live_at.done():
            self.live_at.set_result(None)
        self.feed.claim_is_live()

    # Subscriptions

    def _topics(self, pairs: set[tuple[str, int]]) -> list[bytes]:
        """Return the prefixes of these; one for all partitions of an event, where they are all there."""
        by_event: dict[str, list[int]] = {}
        for event, partition in pairs:
            by_event.setdefault(event, []).append(partition)
        prefixes = []
        for event, partitions in by_event.items():
            if len(partitions) == PARTITIONS:
                prefixes.append(envelope.subscription(self.api, event))
            else:
                prefixes += [envelope.event_topic(self.api, event, partition) for partition in partitions]
        return prefixes

    def _subscribe(self, pairs: set[tuple[str, int]]) -> None:
        self._subscribed |= pairs
        self.feed.subscriptions_of(self, self._topics(self._subscribed))

    def _unsubscribe(self, pairs: set[tuple[str, int]]) -> None:
        self._open -= pairs
        for pair in pairs & self._asking.keys():
            del self._asking[pair]
        if pairs & self._subscribed:
            self._subscribed -= pairs
            self.feed.subscriptions_of(self, self._topics(self._subscribed))

    # What arrives

    def live(self, event: str, partition: int, message: Events) -> None:
        """Record what was published to a topic."""
        if partition not in self.partitions:
            return  # another listener's, of the same process
        records = message.records
        key = (message.journal, event, partition)
        if self._sorting is not None and message.journal:
            self._follows(message.journal, event, message.follows, message.complete)
        stream = self.streams.get(key)
        if stream is None and (stream := self._unknown(key, records)) is None:
            return
        queue = self.queue
        if key[0] == "":
            self._live_only(stream, records)
        elif queue.is_full:
            stream.heard_of(records[-1][0])
            queue.starve(stream)
        else:
            size = stream.size
            if taken := stream.live(records):
                queue.ready(stream, taken, stream.size - size)
        if stream.head > stream.position:
            self.fetch_more(stream)

    def _follows(self, journal: str, event: str, follows: int, complete: int) -> None:
        """Take in how what was published follows on what was before: only together are topics in order."""
        assert self._sorting is not None
        if self._sorting.published(journal, event, follows, complete):
            self._sorted()
        elif self._sorting.lacks:
            self._ask_what_is_lacking()

    def head(self, event: str, partition: int, message: Head) -> None:
        """Take in which event of a topic is the newest."""
        journal, sequence = message.journal, message.sequence
        if partition in self.partitions:
            if self._sorting is not None:
                bounds = (message.follows, message.complete) if message.complete else (sequence, sequence)
                self._follows(journal, event, *bounds)
            stream = self.streams.get((journal, event, partition))
            if stream is None:
                stream = self._unknown((journal, event, partition), [[sequence]])
            if stream is not None:
                stream.heard_of(sequence)
                self.fetch_more(stream)

    def fetch_more(self, stream: Stream) -> None:
        """Ask for more of a topic, where there is more and little waits."""
        if not self._has(stream):
            return
        if stream.order is not None:
            stream.order.note(stream)
        if self.queue.is_full and (stream.ready or stream.order is None):  # else others wait for this one
            self.queue.starve(stream)
            return
        after = stream.wanted()
        if after is not None:
            journal, event, partition = stream.key
            message = Fetch(self.api, journal, event, partition, after, PAGE, self.feed.max_message_size)
            self.feed.ask(lambda: message if self._has(stream) else None, lambda answer: self._page(stream, answer))

    def tick(self) -> None:
        """Ask again for what is missing, and acknowledge again what was not confirmed."""
        if not self.is_complete:
            self._follow()
        self._ask_what_is_lacking()
        for stream in list(self.streams.values()):
            if stream.head > stream.position:
                self.fetch_more(stream)
            if stream.is_to_tell:
                self._mark(stream)

    def _page(self, stream: Stream, answer: Message | None) -> None:
        if not isinstance(answer, Page):
            stream.failed_to_ask()
            self.queue.go_on(stream)
            return
        if not self._has(stream):
            return
        size, trimmed = stream.size, stream.trimmed
        records = [row if type(row[2]) is bytes else [row[0], row[1], stand_in(row[2])] for row in answer.records]
        taken = stream.page(records, answer.through, trimmed=answer.trimmed)
        self.feed.consumer.counts["fetched"] += len(answer.records)
        if stream.trimmed > trimmed:
            self.feed.consumer.lost(self, stream, stream.trimmed - trimmed)
        if answer.more:
            stream.heard_of(answer.through + 1)
        self.queue.ready(stream, max(0, taken), stream.size - size)
        self._mark(stream)
        self.fetch_more(stream)

    def _live_only(self, stream: Stream, records: list[Any]) -> None:
        room = MAX_QUEUED - self.queue.backlog
        if len(records) > room:
            self.queue.drop(len(records) - max(0, room))
            records = records[: max(0, room)]
        assert isinstance(stream, LiveStream)
        size, missed = stream.size, stream.missed
        taken = stream.live(records)
        if stream.missed > missed:
            self.feed.missed(self.api, stream.key)
        if taken:
            self.queue.ready(stream, taken, stream.size - size)

    def _unknown(self, key: Key, records: list[Any]) -> Stream | None:
        """Return the stream of a topic that was not there when we asked where each stands."""
        if not key[0]:
            stream: Stream = LiveStream(key, self)
        elif key[1:] in self._open:
            stream = Stream(key, self, cursor=0)
        else:
            self._early[key] = records[-1][0]
            return None
        self._add(stream)
        return stream

    # What was handled

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """Have it recorded that an event is about to be handled; return which delivery that is, 0: not here."""
        if not self.group:
            return at_least
        journal, event, partition = stream.key
        message = Start(self.api, self.group, self.generation, journal, event, partition, entry.sequence, at_least)
        self.feed.flush()
        answer = await self._ask(stream, message)
        return answer.deliveries if isinstance(answer, Started) else 0

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Have an event kept with its error, to be given to nobody; return whether it is."""
        if not self.group:
            return True
        journal, event, partition = stream.key
        message = Bury(
            self.api, self.group, self.generation, journal, event, partition, entry.sequence, deliveries, error[:10_000]
        )
        answer = await self._ask(stream, message)
        return isinstance(answer, Acked) and not answer.refused

    async def _ask(self, stream: Stream, message: Message) -> Message | None:
        # Repeated under its number, which the publisher knows it by: what it changes is changed once.
        answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()

        def answered(message: Message | None) -> None:
            if not answer.done():
                answer.set_result(message)

        self.feed.ask(lambda: message if self._has(stream) else None, answered, is_urgent=True)
        return await answer

    def _has(self, stream: Stream) -> bool:
        return not self._closed and self.streams.get(stream.key) is stream

    def ack(self, stream: Stream) -> None:
        """Acknowledge soon what was handled of a stream."""
        self._mark(stream)
        if stream.ready and stream.head <= stream.position:
            return  # as nearly always; what waits of a stream that is not ours any more was dropped
        if self.streams.get(stream.key) is not stream:
            self._finished(stream)
        else:
            self.fetch_more(stream)

    def was_handled(self, key: Key, sequence: int) -> None:
        """Record that a topic was handled up to here by a stream that came before ours."""
        stream = self.streams.get(key)
        if stream is not None and sequence > stream.handled:
            self.queue.skip(stream, sequence)
            self._mark(stream)
            self.queue.go_on(stream)

    def retry(self, stream: Stream) -> None:
        """Have the event at hand be given again, which was not handled: left to its new owner, if there is one."""
        if self.streams.get(stream.key) is not stream:
            self._finished(stream)
        elif not self._closed:
            asyncio.get_running_loop().call_later(JOIN_AGAIN_AFTER, self.fetch_more, stream)

    def _mark(self, stream: Stream) -> None:
        if self.group:
            self.feed.to_acknowledge(stream)
        else:
            stream.to_tell()
            stream.was_confirmed(stream.handled)

    def confirmed(self, stream: Stream, sequence: int) -> None:
        """Record that an acknowledgement is on disk."""
        stream.was_confirmed(sequence)
        self.queue.go_on(stream)

    # Giving back

    def _release(self, partitions: frozenset[int]) -> None:
        """Hand out nothing more of these, and give them back once what is at hand is finished."""
        leaving = [stream for key, stream in self.streams.items() if key[2] in partitions]
        busy = []
        for stream in leaving:
            del self.streams[stream.key]
            self.queue.forget(stream)
            if stream.busy:
                busy.append(stream)
        if not busy:
            self._give_back(partitions)
        for stream in busy:
            self._releasing[stream] = partitions

    def _finished(self, stream: Stream) -> None:
        """Record that what was at hand of a stream that is not ours any more is finished."""
        partitions = self._releasing.pop(stream, None)
        if partitions is None:
            self.was_handled(stream.key, stream.handled)
            self.feed.consumer.remember(self, stream)
        elif partitions not in self._releasing.values():
            self._give_back(partitions)

    def _give_back(self, partitions: frozenset[int]) -> None:
        if not self._closed and self.group:
            self.feed.flush()  # what was handled of them is acknowledged first: they go the same way
            self.feed.send(Release(self.api, self.group, self.generation, sorted(partitions)))

    def _drop_all(self) -> None:
        """Hand out nothing more; what was handled is remembered for whoever serves these journals next."""
        self.generation = 0
        self.partitions, self.events = frozenset(), ()
        self._open.clear()
        self._asking.clear()
        self._early.clear()
        self._releasing.clear()
        self._subscribed.clear()
        if self._sorting is not None:
            self._sorting.clear()
        self.feed.subscriptions_of(self, [])
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self.queue.forget(stream)
            if not stream.busy:
                self.feed.consumer.remember(self, stream)

    def close(self) -> None:
        """Follow nothing any more: the publisher is gone, or the listener."""
        if not self._closed:
            self._drop_all()
            self._closed = True
            if not self.live_at.done():
                self.live_at.cancel()

    @property
    def busy(self) -> Iterable[Stream]:
        """The streams of which an event is at hand."""
        return [stream for stream in self.streams.values() if stream.busy]
