"""A consumer group in memory: its cursors, and which member holds which partition."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.adapters.memory.event_group import EventGroup
from lightbus.adapters.memory.event_log import EventLog
from lightbus.ports.events import EventTopic, OutgoingEvent, SubscriptionRequest, TopicState
from lightbus.wire.field_types import PARTITIONS

ONE, TWO, OTHER = EventTopic("sold", 1), EventTopic("sold", 2), EventTopic("lost", 1)
ALL = frozenset(range(PARTITIONS))


class Member:
    """A member that records its partitions."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()
        self.generation = 0
        self.news: list[EventTopic] = []

    def assigned(self, partitions: frozenset[int], generation: int) -> None:
        """Record it."""
        self.partitions, self.generation = partitions, generation

    def on_new_events(self, topic: EventTopic) -> None:
        """Record it."""
        self.news.append(topic)


def request(group: str = "mail", *events: str) -> SubscriptionRequest:
    """Return what a listener asks for."""
    return SubscriptionRequest(api="shop", events=events or ("sold",), group=group, member="m")


class Bench:
    """A group and the log that it reads."""

    def __init__(self, *topics: EventTopic, group: str = "mail", start: int = 0) -> None:
        self.log = EventLog(1000)
        for topic in topics:
            self.add(topic)
        self.group = EventGroup(request(group), self.log, start)

    def add(self, topic: EventTopic = ONE, only_group: str | None = None) -> int:
        """Add an event."""
        id = f"id-{self.log.head + 1}"
        return self.log.append(OutgoingEvent(api="shop", topic=topic, record=b"x", published_at=1.0, id=id), only_group)

    def join(self, name: str = "one", *events: str) -> Member:
        """Let a member join."""
        member = Member()
        self.group.join(name, member, request(self.group.name, *events))
        return member

    def waiting(self, topic: EventTopic = ONE, after: int = 0, limit: int = 100) -> list[int]:
        """Return the sequences of the next fetched events."""
        return [event.sequence for event in self.group.waiting(topic, after, limit)]


def test_events_after_a_sequence_are_returned_in_pages() -> None:
    """The events of a topic after a sequence, a limited number at a time."""
    bench = Bench(ONE, TWO, ONE, ONE)
    assert bench.waiting() == [1, 3, 4]
    assert bench.waiting(after=1) == [3, 4]
    assert bench.waiting(limit=2) == [1, 3]
    assert bench.waiting(TWO, after=2) == []


def test_group_does_not_get_earlier_events() -> None:
    """Events before its start are not for it."""
    bench = Bench(ONE, ONE, start=1)
    assert bench.waiting() == [2]
    assert bench.group.cursor(ONE) == 1


@pytest.mark.parametrize(("group", "given"), [("mail", [1, 2]), ("audit", [1, 3]), ("", [1])])
def test_events_for_one_group(group: str, given: list[int]) -> None:
    """Other groups, and listeners without one, do not get them."""
    bench = Bench(ONE, group=group)
    bench.add(only_group="mail")
    bench.add(only_group="audit")
    assert bench.waiting() == given


def test_cursor_goes_forward_only() -> None:
    """A lower sequence does not set it back."""
    bench = Bench(ONE, ONE, ONE)
    bench.group.ack(ONE, 2)
    bench.group.ack(ONE, 1)
    assert bench.group.cursor(ONE) == 2
    assert bench.group.state_of(ONE) == TopicState(ONE, 2, 3, 0)
    done = [bench.group.is_done_with(event) for event in bench.log.behind(ONE, 0)]
    assert done == [True, True, False]


def test_states_of_partitions() -> None:
    """Only of events that the group wants."""
    bench = Bench(ONE, TWO, OTHER)
    assert [state.topic for state in bench.group.states([1, 2])] == [ONE, TWO]
    assert [state.topic for state in bench.group.states([2])] == [TWO]


def test_deliveries_are_counted() -> None:
    """For each event, from the number that its consumer gives; a handled event has no count."""
    bench = Bench(ONE, ONE)
    assert [bench.group.begin(ONE, 1, 1) for _ in range(3)] == [1, 2, 3]
    assert bench.group.begin(ONE, 2, 5) == 5
    assert bench.group.state_of(ONE).begun == 2
    bench.group.ack(ONE, 1)
    assert bench.group.begin(ONE, 2, 1) == 6
    assert bench.group.begin(ONE, 1, 1) == 1


def test_losses_are_reported_once() -> None:
    """Events deleted before they were handled count; handled ones do not."""
    bench = Bench(ONE, ONE, TWO)
    bench.group.ack(ONE, 1)
    for topic in (ONE, TWO):
        for event in bench.log.behind(topic, 0):
            bench.group.deleted(event)
    assert bench.group.lost == 2
    assert [bench.group.take_losses(topic) for topic in (ONE, ONE, TWO)] == [1, 0, 1]
    assert bench.group.state().lost == 2


def test_lag_is_the_number_of_unhandled_events() -> None:
    """Of those that the group gets."""
    bench = Bench(ONE, ONE, TWO, OTHER)
    bench.add(only_group="audit")
    bench.group.ack(ONE, 1)
    summary = bench.group.state()
    assert (summary.lag, summary.name, summary.dead, summary.members) == (2, "mail", 0, {})


def test_forgotten_group_starts_again() -> None:
    """With later events, and without its earlier state."""
    bench = Bench(ONE, ONE)
    bench.group.begin(ONE, 1, 3)
    bench.group.deleted(bench.log.behind(ONE, 0)[0])
    bench.group.forget(2)
    bench.add()
    assert bench.waiting() == [3]
    assert (bench.group.lost, bench.group.take_losses(ONE), bench.group.state_of(ONE)) == (
        0,
        0,
        TopicState(ONE, 2, 3, 0),
    )
    assert bench.group.begin(ONE, 1, 1) == 1


# Members


def test_single_member_holds_all_partitions() -> None:
    """`holds` confirms it."""
    bench = Bench()
    assert not bench.group.has_members
    member = bench.join()
    assert member.partitions == ALL
    assert bench.group.has_members
    assert bench.group.holds("one", member.generation, 3)
    assert not bench.group.holds("two", member.generation, 3)


def test_newcomer_is_granted_partitions_that_others_released() -> None:
    """It gets its share once the others have released it; at no time do two members hold a partition."""
    bench = Bench()
    one, two = bench.join("one"), bench.join("two")
    assert one.partitions | two.partitions != ALL  # a revoked partition has no new owner yet
    assert not one.partitions & two.partitions
    bench.group.release("one", one.generation, ALL - one.partitions)
    assert one.partitions | two.partitions == ALL
    assert not one.partitions & two.partitions
    assert bench.group.state().members == {"one": sorted(one.partitions), "two": sorted(two.partitions)}


def test_leaving_member_releases_all_partitions() -> None:
    """The others get them at once; leaving without being a member changes nothing."""
    bench = Bench()
    one, two = bench.join("one"), bench.join("two")
    bench.group.release("one", one.generation, ALL - one.partitions)
    bench.group.leave("one", is_done=True)
    assert two.partitions == ALL
    bench.group.leave("one", is_done=True)
    bench.group.leave("two", is_done=True)
    assert not bench.group.has_members


@pytest.mark.parametrize(("is_done", "begun"), [(True, 0), (False, 2)])
def test_lost_member_may_have_started_fetched_events(is_done: bool, begun: int) -> None:
    """All events that it had fetched may have been started."""
    bench = Bench(ONE, ONE, TWO)
    bench.join()
    bench.waiting(ONE)
    bench.group.leave("one", is_done=is_done)
    assert bench.group.state_of(ONE).begun == begun
    assert bench.group.state_of(TWO).begun == 0


def test_handled_events_of_a_lost_member() -> None:
    """It leaves open only the events that it fetched and did not acknowledge."""
    bench = Bench(ONE, ONE)
    bench.join()
    bench.waiting(ONE)
    bench.group.ack(ONE, 2)
    bench.group.leave("one", is_done=False)
    assert bench.group.state_of(ONE).begun == 0


def test_holder_of_the_partition_is_notified() -> None:
    """Of events that the group wants, as its latest member said."""
    bench = Bench()
    one, two = bench.join("one"), bench.join("two")
    bench.group.release("one", one.generation, ALL - one.partitions)
    for topic in (ONE, TWO, OTHER):
        bench.group.notify_new_events(topic)
    assert sorted(one.news + two.news) == [ONE, TWO]
    assert all(topic.partition in member.partitions for member in (one, two) for topic in member.news)
    bench.join("three", "sold", "lost")
    bench.group.notify_new_events(OTHER)
    told: list[Any] = [topic for member in (one, two) for topic in member.news]
    assert OTHER in told
