"""A consumer group of the event backend in memory: its cursors, and which member holds which partition."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from ...core.groups import Group, MemberAssignment
from ...ports.events import DeadLetter, EventTopic, GroupSummary, SubscriptionRequest, TopicState
from ...wire.field_types import PARTITIONS
from .event_log import EventLog, LoggedEvent

__all__ = ["EventGroup", "GroupMember"]


class GroupMember(Protocol):
    """A member, which is notified of its partitions and of new events."""

    def assigned(self, partitions: frozenset[int], generation: int) -> None:
        """Follow these partitions from now on, and no others."""

    def on_new_events(self, topic: EventTopic) -> None:
        """Record that a topic has new events."""


class EventGroup:
    """
    A group, or a listener without one, which gets a group of its own. Used with the owner's lock held.

    Args:
        request: the request of the first member.
        log: the events of its API.
        start: events up to this sequence are not for this group.

    """

    def __init__(self, request: SubscriptionRequest, log: EventLog, start: int) -> None:
        self.request = request
        self.dead: dict[int, DeadLetter] = {}
        self.lost = 0
        self._log = log
        self._start = start
        self._cursors: dict[EventTopic, int] = {}
        self._fetched: dict[EventTopic, int] = {}
        self._begun: dict[EventTopic, int] = {}
        self._deliveries: Counter[tuple[EventTopic, int]] = Counter()
        self._unreported_losses: Counter[EventTopic] = Counter()
        self._membership = Group(request.group, PARTITIONS)
        self._members: dict[str, GroupMember] = {}

    # State

    def wants(self, event: LoggedEvent) -> bool:
        """Return whether the group gets, or got, an event."""
        return event.sequence > self._start and self.request.wants(event.topic.event) and event.is_for(self.name)

    def starts_before(self, sequence: int) -> bool:
        """Return whether the group has started before an event: since that was delivered, it may have begun anew."""
        return self._start < sequence

    @property
    def name(self) -> str:
        """The group's name; empty for a listener without a group."""
        return self.request.group

    def cursor(self, topic: EventTopic) -> int:
        """Return the sequence up to which the group has handled a topic."""
        return self._cursors.get(topic, self._start)

    def state_of(self, topic: EventTopic) -> TopicState:
        """Return the state of a topic in this group."""
        return TopicState(topic, self.cursor(topic), self._log.head_of(topic), self._begun.get(topic, 0))

    def states(self, partitions: Iterable[int]) -> Sequence[TopicState]:
        """Return the states of all topics of some partitions."""
        wanted = set(partitions)
        topics = (topic for topic in self._log.topics if topic.partition in wanted and self.request.wants(topic.event))
        return [self.state_of(topic) for topic in topics]

    def waiting(self, topic: EventTopic, after: int, limit: int) -> list[LoggedEvent]:
        """Return the next events of a topic for this group."""
        behind = self._log.behind(topic, max(after, self._start))
        found = list(itertools.islice((event for event in behind if event.is_for(self.name)), limit))
        if found:
            self._fetched[topic] = max(found[-1].sequence, self._fetched.get(topic, 0))
        return found

    def take_losses(self, topic: EventTopic) -> int:
        """Return how many events of a topic were deleted unhandled since the last call."""
        return self._unreported_losses.pop(topic, 0)

    def is_done_with(self, event: LoggedEvent) -> bool:
        """Return whether this group has nothing left to do with an event."""
        return not self.wants(event) or self.cursor(event.topic) >= event.sequence

    def status(self, event: LoggedEvent) -> str:
        """Return the status of an event that this group gets: waiting, dead or acked."""
        if self.cursor(event.topic) < event.sequence:
            return "waiting"
        return "dead" if event.sequence in self.dead else "acked"

    def state(self) -> GroupSummary:
        """Return the summary of the group for reports."""
        waiting = (
            event
            for topic in self._log.topics
            for event in self._log.behind(topic, self.cursor(topic))
            if self.wants(event)
        )
        return GroupSummary(
            api=self.request.api,
            name=self.name,
            events=self.request.events,
            members={member: self._membership.held_by(member) for member in self._members},
            lag=sum(1 for _ in waiting),
            dead=len(self.dead),
            lost=self.lost,
        )

    # Handling events

    def ack(self, topic: EventTopic, sequence: int) -> None:
        """Record that a topic is handled up to a sequence."""
        if sequence > self.cursor(topic):
            self._cursors[topic] = sequence
            for key in [key for key in self._deliveries if key[0] == topic and key[1] <= sequence]:
                del self._deliveries[key]

    def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """Record a delivery of an event; return its number."""
        self._deliveries[topic, sequence] = max(self._deliveries[topic, sequence] + 1, at_least)
        self._begun[topic] = max(sequence, self._begun.get(topic, 0))
        return self._deliveries[topic, sequence]

    def deleted(self, event: LoggedEvent) -> None:
        """Record that an event was deleted."""
        if not self.is_done_with(event):
            self.lost += 1
            self._unreported_losses[event.topic] += 1

    def forget(self, head: int) -> None:
        """Start again with the events after a sequence."""
        self._start = head
        self.lost = 0
        for kept in (self.dead, self._cursors, self._fetched, self._begun, self._deliveries, self._unreported_losses):
            kept.clear()

    # Members

    @property
    def has_members(self) -> bool:
        """Whether the group has members."""
        return bool(self._members)

    def join(self, name: str, member: GroupMember, request: SubscriptionRequest) -> None:
        """Add a member; its request replaces that of the group."""
        self.request = request
        self._members[name] = member
        self._send_assignments(self._membership.join(name, 0.0))

    def leave(self, name: str, *, is_done: bool) -> None:
        """Remove a member; if it is not done, record the events that it may have started."""
        if self._members.pop(name, None) is None:
            return
        held = set(self._membership.held_by(name))
        if not is_done:
            for topic, sequence in self._fetched.items():
                if topic.partition in held and sequence > self.cursor(topic):
                    self._begun[topic] = max(sequence, self._begun.get(topic, 0))
        self._send_assignments(self._membership.leave(name))

    def release(self, name: str, generation: int, partitions: frozenset[int]) -> None:
        """Record that a member has released partitions."""
        self._send_assignments(self._membership.released(name, generation, partitions))

    def holds(self, name: str, generation: int, partition: int) -> bool:
        """Return whether a member holds a partition."""
        return self._membership.holds(name, generation, partition)

    def notify_new_events(self, topic: EventTopic) -> None:
        """Notify the holder of a topic's partition of new events."""
        if self.request.wants(topic.event):
            for name, member in list(self._members.items()):
                if topic.partition in self._membership.assigned_to(name):
                    member.on_new_events(topic)

    def _send_assignments(self, assignments: Iterable[MemberAssignment]) -> None:
        for assignment in assignments:
            member = self._members[assignment.member]
            member.assigned(frozenset(assignment.partitions), assignment.generation)
