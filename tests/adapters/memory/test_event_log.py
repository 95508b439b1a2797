"""The events of one API in memory: numbered, by topic, up to a bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.adapters.memory.event_log import EventLog, LoggedEvent
from lightbus.ports.events import EventTopic, OutgoingEvent, StoredEvent

ONE, TWO = EventTopic("sold", 1), EventTopic("sold", 2)


def event(id: str = "", topic: EventTopic = ONE, at: float = 1.0, record: bytes = b"x") -> OutgoingEvent:
    """Return an event to keep."""
    return OutgoingEvent(api="shop", topic=topic, record=record, published_at=at, id=id)


def log_of(*topics: EventTopic, most: int = 100) -> EventLog:
    """Return a log with an event for each of these topics."""
    log = EventLog(most)
    for number, topic in enumerate(topics, 1):
        log.append(event(f"id-{number}", topic, float(number)))
    return log


def sequences(events: Any) -> list[int]:
    """Return where events are."""
    return [each.sequence for each in events]


def test_events_are_numbered_over_all_topics() -> None:
    """From 1 on, in the order of storing."""
    log = log_of(ONE, TWO, ONE)
    assert log.head == 3
    assert (log.head_of(ONE), log.head_of(TWO)) == (3, 2)
    assert sequences(log.behind(ONE, 0)) == [1, 3]
    assert sequences(log.behind(ONE, 1)) == [3]
    assert sequences(log.newest_first()) == [3, 2, 1]
    assert log.topics == [ONE, TWO]


def test_event_is_stored_once() -> None:
    """By its id: storing it again returns its sequence."""
    log = log_of(ONE)
    assert log.append(event("id-1")) == 1
    assert log.append(event("id-2")) == 2
    assert (log.head, log.place_of("id-1"), log.place_of("id-3")) == (2, 1, None)


def test_an_event_may_be_for_one_group() -> None:
    """The same event is stored again for a single group, once for each group."""
    log = log_of(ONE)
    assert [log.append(event("id-1"), group) for group in ("mail", "mail", "audit")] == [2, 2, 3]
    logged = log.find(2)
    assert logged is not None
    assert [logged.is_for(name) for name in ("mail", "audit", "")] == [True, False, False]
    everyone = log.find(1)
    assert everyone is not None
    assert [everyone.is_for(name) for name in ("mail", "")] == [True, True]


def test_topic_without_events_does_not_exist() -> None:
    """Asking for it does not create it."""
    log = EventLog(10)
    assert (log.head, log.head_of(ONE), log.behind(ONE, 0), log.topics, log.find(1)) == (0, 0, [], [], None)
    assert list(log.newest_first()) == []


def test_events_are_looked_up() -> None:
    """An event as the port returns it; None if there is none."""
    log = log_of(ONE, TWO)
    found = log.find(2)
    assert found == LoggedEvent(2, TWO, "id-2", b"x", 2.0)
    assert found.stored == StoredEvent(2, TWO, b"x", 2.0)
    assert log.find(0) is None
    assert log.find(3) is None


@pytest.mark.parametrize(("moment", "place"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (3.0, 2), (3.5, 3)])
def test_sequence_before_a_time(moment: float, place: int) -> None:
    """Events after it were fired at this time or later."""
    assert log_of(ONE, TWO, ONE).before(moment) == place


def test_oldest_events_are_deleted() -> None:
    """A tenth more than allowed is kept before all surplus events are deleted at once."""
    log = log_of(*[ONE, TWO] * 5, ONE, most=10)
    assert log.trim() == ()
    log.append(event("id-12", TWO, 12.0))
    assert sequences(log.trim()) == [1, 2]
    assert sequences(log.behind(ONE, 0)) == [3, 5, 7, 9, 11]
    assert (log.find(2), log.place_of("id-2"), log.head) == (None, None, 12)
    assert log.append(event("id-1")) == 13  # its id was deleted with the event


def test_topic_without_remaining_events() -> None:
    """It is not among the topics with events."""
    log = log_of(TWO, *[ONE] * 12, most=10)
    log.trim()
    assert log.topics == [ONE]
    assert log.head_of(TWO) == 0


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(0, 30)), max_size=60), st.integers(1, 20))
def test_log_behaves_like_a_list(events: list[tuple[EventTopic, int]], most: int) -> None:
    """For any events in any order, trimmed at any time."""
    log, model, head = EventLog(most), list[tuple[int, EventTopic, str]](), 0
    for topic, id in events:
        known = [sequence for sequence, _, each in model if each == str(id)]
        sequence = log.append(event(str(id), topic))
        if known:
            assert [sequence] == known
            continue
        head += 1
        assert sequence == head
        model.append((head, topic, str(id)))
        gone = log.trim()
        assert sequences(gone) == [sequence for sequence, _, _ in model[: len(gone)]]
        del model[: len(gone)]
        assert len(model) <= most + most // 10
        for each in (ONE, TWO):
            assert sequences(log.behind(each, 0)) == [sequence for sequence, topic, _ in model if topic == each]
        assert all(log.find(sequence) is not None for sequence, _, _ in model)
