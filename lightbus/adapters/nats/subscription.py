"""One listener at a JetStream: which partitions of its group it holds, and their records.

The rendezvous hash assigns each partition to a member of the group. Its owner releases it when a new member is to have
it; if the owner disappears without notice, the partition is taken over after `member_timeout` without a sign of life.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from ...core.partitions import rendezvous
from ...exceptions import EventBackendError
from ...phrases import INTERNAL_ERROR
from ...ports.events import EventInbox, EventPage, EventTopic, KeptEvent, SubscriptionRequest, TopicState
from ...recurring import RecurringLog
from ...wire.field_types import PARTITIONS
from .api_stream import ALL, PAST, ApiStream
from .group_losses import GroupLosses, Mark, first_mark
from .group_records import GroupRecordsBucket
from .places import digest

__all__ = ["GroupStart", "NatsSubscription", "complete_record"]

_failures = RecurringLog(logging.getLogger("lightbus.events"))

TICK = 0.5
BEATS_PER_TIMEOUT = 4


class GroupStart(NamedTuple):
    """
    Where a group starts.

    Attributes:
        start: events up to this sequence are not for the group.
        past: events that were moved into the stream are for the group up to this sequence.
        numbers: `<event>.<partition>` -> number of events for the group before its start; None if not counted.
        created_at: when it was created, in Unix time.

    """

    start: int
    past: int = 0
    numbers: Mapping[str, int | None] | None = None
    created_at: float = 0.0

    @classmethod
    def of_record(cls, info: Mapping[str, Any]) -> GroupStart:
        """Return where the group of an `info` record starts."""
        return cls(int(info["start"]), int(info.get("past", 0)), info.get("numbers"), info.get("created_at", 0.0))

    def stands(self, records: GroupRecordsBucket, group: str) -> bool:
        """Return whether this group is on record: it was neither removed, nor begun anew by another member."""
        info = records.records.get(f"info.{group}")
        return info is not None and GroupStart.of_record(info.value) == self

    def is_before(self, sequence: int, records: GroupRecordsBucket, group: str) -> bool:
        """Return whether this group gets a late event; not if it was removed since that was delivered, or is new."""
        return self.start < sequence and self.stands(records, group)


class NatsSubscription:
    """
    The subscription of one listener. Only used on the loop that it was made on.

    Args:
        stream: the stream of the events.
        request: what is subscribed to.
        inbox: the listener, which is notified of topics and revoked partitions.
        begins: where the group starts.
        member_timeout: seconds without a sign of life after which a member counts as gone.
        begin_anew: begins the group again after it was removed; returns where.

    """

    def __init__(
        self,
        stream: ApiStream,
        request: SubscriptionRequest,
        inbox: EventInbox,
        begins: GroupStart,
        member_timeout: float,
        *,
        begin_anew: Callable[[], Awaitable[GroupStart]] | None = None,
    ) -> None:
        self.request = request
        self._stream = stream
        self._records = stream.records
        self._inbox = inbox
        self._begins = begins
        self._member_timeout = member_timeout
        self._begin_anew = begin_anew
        self._group = digest(request.group)
        self._ours = (ALL, self._group) if request.group else (ALL,)
        self._losses = GroupLosses(stream.counts, self._ours)
        self._held: set[int] = set()
        self._revoked: set[int] = set()
        self._unreported_partitions: set[int] = set()
        """Partitions whose topics are still to be reported to the inbox: until then no news is passed on."""
        self._pending_news: dict[EventTopic, int] = {}
        """News that arrived in the meantime: the newest event of each topic."""
        self._locks = [asyncio.Lock() for _ in range(PARTITIONS)]
        self._wake = asyncio.Event()
        self.is_closed = False
        """Whether it follows no events any more."""
        self._task: asyncio.Task[None] | None = None
        self._unsubscribers: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Join the group, and start to follow our partitions."""
        self._unsubscribers.append(self._stream.follow(self._on_new_events))
        if self.request.group:
            await self._records.put(self._member_key, {})
            self._unsubscribers.append(self._records.observe(self._on_record))
            await self._balance()
        else:
            self._held = set(range(PARTITIONS))
            self._unreported_partitions |= self._held
        await self._follow()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, *, is_done: bool = True) -> None:
        """Leave the group."""
        if self.is_closed:
            return
        self.abandon()
        if self.request.group:
            await asyncio.gather(*(self._give_up(partition, is_done=is_done) for partition in list(self._held)))
            await self._records.delete(self._member_key)

    def abandon(self) -> None:
        """Stop following events, without leaving the group."""
        self.is_closed = True
        for end in self._unsubscribers:
            end()
        self._unsubscribers.clear()
        if self._task is not None:
            self._task.cancel()

    # Assignment of partitions

    @property
    def _member_key(self) -> str:
        return f"member.{self._group}.{self.request.member}"

    def _on_record(self, key: str) -> None:
        """Wake the balancing when a record changes, unless only a cursor has changed."""
        kind, group, *which = key.split(".", 2)
        if group != self._group:
            return
        if kind == "part":
            partition = int(which[0])
            owner = self._state(partition).get("owner")
            if owner and (owner == self.request.member) == (partition in self._held):
                return
        if kind in ("part", "member", "info"):
            self._wake.set()

    async def _run(self) -> None:
        beat_at, is_new = time.monotonic(), False
        beat_every = self._member_timeout / BEATS_PER_TIMEOUT
        while True:
            try:
                async with asyncio.timeout(min(TICK, beat_every)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if self.request.group:
                    if self._begin_anew is not None and not self._begins.stands(self._records, self._group):
                        # Somebody has removed the group: this member joins a new one of its name.
                        self._begins, is_new = await self._begin_anew(), True
                        beat_at = -math.inf  # our record is removed, too
                    if time.monotonic() - beat_at >= beat_every:
                        await self._records.put(self._member_key, {})
                        beat_at = time.monotonic()
                    await self._balance(is_new=is_new)
                    is_new = False
                await self._follow()
            except EventBackendError:
                continue  # the listener reports it when fetching events fails
            except Exception as error:  # a member that ended here would hold its partitions, and handle nothing
                text = "Partitions of the group %s of %s were not followed, which is tried again: %s"
                about = self.request.group, self._stream.api, INTERNAL_ERROR
                _failures.log(self._member_key, logging.ERROR, text, *about, exc_info=error)

    @property
    def members(self) -> list[str]:
        """The members of the group. While the watch does not work, no member counts as gone."""
        prefix, now = f"member.{self._group}.", time.monotonic()
        is_current, since = self._records.is_current, self._records.current_since
        return [
            key.removeprefix(prefix)
            for key, held in self._records.records.items()
            if key.startswith(prefix) and (not is_current or now - max(held.seen_at, since) < self._member_timeout)
        ]

    async def _balance(self, *, is_new: bool = False) -> None:
        """Take and revoke partitions; those held in a group that is new now are reported from its start."""
        members, me = self.members, self.request.member
        revoked = set()
        for partition in range(PARTITIONS):
            owner = rendezvous(f"{self.request.group}\0{partition}", members)
            if partition in self._held:
                if is_new or self._state(partition).get("owner") != me:
                    self._held.discard(partition)  # else another member took it over, having no sign of life from us
                    self._revoked.discard(partition)
                    self._losses.forget(partition)
                    revoked.add(partition)
                elif owner not in (me, None) and partition not in self._revoked:
                    self._revoked.add(partition)
                    revoked.add(partition)
        if revoked:
            self._inbox.revoke(frozenset(revoked))
        for partition in range(PARTITIONS):
            should_be_ours = rendezvous(f"{self.request.group}\0{partition}", members) == me
            if partition in self._held:
                continue
            if should_be_ours and await self._take(partition, members):
                self._held.add(partition)
                self._unreported_partitions.add(partition)
            elif not should_be_ours and self._owns(partition):  # the confirmation that we released or took it was lost
                await self._give_up(partition, is_done=True)

    async def _take(self, partition: int, members: list[str]) -> bool:
        me = self.request.member
        head = await self._stream.head() if self._state(partition).get("owner") else 0

        def change(value: Any) -> dict[str, Any] | None:
            state = complete_record(value)
            owner = state.get("owner")
            if owner and owner != me and owner in members:
                return None
            if owner:  # the previous owner is gone, and may have started any event up to the head
                state["begun_through"] = max(head, state["begun_through"])
            return {**state, "owner": me}

        return await self._records.update(_partition_key(self._group, partition), change) is not None

    async def _give_up(self, partition: int, *, is_done: bool) -> None:
        head = 0 if is_done else await self._stream.head()

        def change(state: dict[str, Any]) -> None:
            state["owner"] = ""
            state["begun_through"] = max(head, state["begun_through"])

        await self._change(partition, change)
        self._held.discard(partition)
        self._revoked.discard(partition)
        self._losses.forget(partition)

    def _state(self, partition: int) -> dict[str, Any]:
        held = self._records.records.get(_partition_key(self._group, partition))
        return complete_record(None if held is None else held.value)

    def _mark(self, topic: EventTopic) -> Mark:
        return first_mark(self._state(topic.partition), topic, self._begins.start, self._begins.numbers)

    # Notifications

    def _on_new_events(self, topic: EventTopic | None, sequence: int) -> None:
        if topic is None:
            self._unreported_partitions |= self._held
            self._wake.set()
        elif self._unreported_partitions:
            self._pending_news[topic] = sequence
        elif self._is_ours(topic):
            self._inbox.follow([self._topic_state(topic, sequence)])

    async def _follow(self) -> None:
        """
        Report the topics of new partitions, and of those whose news may have been missed.

        News arrive in order. If they were passed on during this, a topic would be known before others with earlier
        events.
        """
        while self._unreported_partitions:
            partitions = self._unreported_partitions.copy()
            head = await self._stream.head()
            kept, counted = await self._stream.topics(), self._stream.counts.events
            # Topics that are only counted have no events left. Fetching from them reports those events as lost.
            topics = [topic for topic in {*kept, *counted.topics} if topic.partition in partitions]
            topics = [each for each in topics if each in kept or counted.head(each) > self._mark(each).sequence]
            self._unreported_partitions -= partitions
            if self._unreported_partitions:  # further partitions became ours in the meantime: report all together
                self._unreported_partitions |= partitions
                continue
            heads = {**dict.fromkeys(topics, head), **self._pending_news}
            self._pending_news.clear()
            self._inbox.follow([self._topic_state(*each) for each in heads.items() if self._is_ours(each[0])])

    def _is_ours(self, topic: EventTopic) -> bool:
        is_held = topic.partition in self._held and topic.partition not in self._revoked
        stands = not self.request.group or self._begins.stands(self._records, self._group)
        return is_held and stands and not self.is_closed and self.request.wants(topic.event)

    def _topic_state(self, topic: EventTopic, head: int) -> TopicState:
        state = self._state(topic.partition)
        begun = [int(key.partition(":")[2]) for key in state["starts"] if key.startswith(f"{topic.event}:")]
        cursor = self._mark(topic).sequence
        return TopicState(topic, cursor, max(head, cursor), max([state["begun_through"], *begun]))

    # Requests

    async def fetch(self, topic: EventTopic, after: int, limit: int) -> EventPage:
        """Return the next events of a topic after a sequence."""
        if topic.partition not in self._held:
            return EventPage((), after)
        events, through = await self._stream.read_topic(topic, after, limit)
        kept = [
            KeptEvent(each.sequence, each.record)
            for each, only in events
            if only in self._ours or (only == PAST and each.sequence <= self._begins.past)
        ]
        through, cursor = max(after, through), self._mark(topic)
        counted = [each.sequence for each, only in events if only in self._ours]
        return EventPage(kept, through, await self._losses.read(topic, cursor, after, counted, through))

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record the cursors of topics."""
        by_partition: dict[int, dict[str, Mark]] = {}
        for topic, sequence in handled.items():
            mark = self._losses.acknowledge(topic, sequence) or Mark(sequence, None, 0)
            by_partition.setdefault(topic.partition, {})[topic.event] = mark._replace(sequence=sequence)
        if self.request.group:
            await asyncio.gather(*(self._ack(*each) for each in by_partition.items()))

    async def _ack(self, partition: int, marks: Mapping[str, Mark]) -> None:
        handled = {event: mark.sequence for event, mark in marks.items()}

        def change(state: dict[str, Any]) -> None:
            for event, mark in marks.items():
                before = first_mark(state, EventTopic(event, partition), self._begins.start, self._begins.numbers)
                if mark.sequence > before.sequence:
                    state["cursors"] = {**state["cursors"], event: mark.sequence}
                    state["numbers"] = {**state["numbers"], event: mark.number}
                    state["lost"] = {**state["lost"], event: max(mark.lost, before.lost)}
            state["starts"] = {key: n for key, n in state["starts"].items() if not _is_handled(key, handled)}

        await self._change(partition, change)

    async def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """Record a delivery of an event, and return its number; 0 if the partition is not ours any more."""
        if not self._begins.is_before(sequence, self._records, self._group):
            return 0
        key = f"{topic.event}:{sequence}"

        def change(state: dict[str, Any]) -> None:
            state["starts"] = {**state["starts"], key: max(state["starts"].get(key, 0) + 1, at_least)}

        state = await self._change(topic.partition, change)
        return 0 if state is None else int(state["starts"][key])

    async def dead_letter(self, topic: EventTopic, sequence: int, deliveries: int, error: str) -> bool:
        """Record an event as a dead letter; return False if it is gone, or the partition is not ours any more."""
        if not self._owns(topic.partition) or await self._stream.find(sequence) is None:
            return False
        if not self._begins.is_before(sequence, self._records, self._group):
            return False
        value = {"group": self.request.group, "deliveries": deliveries, "error": error, "died_at": time.time()}
        await self._records.put(f"dead.{self._group}.{sequence}", value)
        return True

    async def release(self, partitions: frozenset[int]) -> None:
        """Release revoked partitions."""
        to_release = partitions & self._revoked  # the others were taken over, or are ours again
        await asyncio.gather(*(self._give_up(partition, is_done=True) for partition in to_release))

    def _owns(self, partition: int) -> bool:
        return self._state(partition).get("owner") == self.request.member

    async def _change(self, partition: int, change: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """Change the record of a partition; return it, or None if the partition is not ours (any more)."""

        def change_ours(value: Any) -> dict[str, Any] | None:
            state = complete_record(value)
            if state.get("owner") != self.request.member:
                return None
            change(state)
            return state

        async with self._locks[partition]:
            state: dict[str, Any] | None = await self._records.update(
                _partition_key(self._group, partition), change_ours
            )
        if state is None:
            self._wake.set()
        return state


def _partition_key(group: str, partition: int) -> str:
    return f"part.{group}.{partition}"


def complete_record(value: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record of a partition with all fields, even if there is no record yet."""
    return {"cursors": {}, "numbers": {}, "lost": {}, "starts": {}, "begun_through": 0, **(value or {})}


def _is_handled(key: str, handled: Mapping[str, int]) -> bool:
    event, _, sequence = key.partition(":")
    return int(sequence) <= handled.get(event, 0)
