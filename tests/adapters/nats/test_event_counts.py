"""The counts of a stream's subjects: each event counts once, also after it is deleted."""

from __future__ import annotations

from lightbus.adapters.nats.api_stream import ALL
from lightbus.adapters.nats.event_counts import EventCounts
from lightbus.adapters.nats.places import StreamPlaces
from lightbus.ports.events import EventTopic

PLACES = StreamPlaces("home", "shop")
SOLD, OPENED = EventTopic("sold", 1), EventTopic("opened", 2)


def test_new_events_are_counted_in_order() -> None:
    """An event that arrives twice counts once; after a gap nothing counts until the gap is read."""
    counts = EventCounts(PLACES)
    for topic, sequence in ((SOLD, 1), (SOLD, 1), (OPENED, 2), (SOLD, 4)):
        counts.take_next((topic, ALL), sequence)
    assert (counts.number(SOLD, (ALL,)), counts.number(OPENED, (ALL,)), counts.through) == (1, 1, 2)
    counts.take_all([((OPENED, ALL), 2), ((SOLD, "mail"), 3), ((SOLD, ALL), 4)])
    assert (counts.number(SOLD, (ALL,)), counts.number(SOLD, (ALL, "mail")), counts.through) == (2, 3, 4)
    assert (counts.head(SOLD), counts.head(OPENED), counts.head(EventTopic("sold", 7))) == (4, 2, 0)
    assert counts.uncounted == 0


def test_events_deleted_before_counting() -> None:
    """Their number is known, but not their topics."""
    counts = EventCounts(PLACES)
    counts.take_all([((SOLD, ALL), 1), ((SOLD, ALL), 4)])
    assert (counts.uncounted, counts.through, counts.number(SOLD, (ALL,))) == (2, 4, 2)
    counts.skip(3)
    assert (counts.uncounted, counts.through) == (2, 4)
    counts.skip(10)
    assert (counts.uncounted, counts.through) == (8, 10)


def test_foreign_messages_are_skipped() -> None:
    """Another program writes into the stream."""
    counts = EventCounts(PLACES)
    counts.take_next(None, 1)
    counts.take_all([(None, 2), ((SOLD, ALL), 3)])
    assert (counts.through, counts.uncounted, counts.number(SOLD, (ALL,)), set(counts.topics)) == (3, 0, 1, {SOLD})
    counts.adopt({"through": 5, "subjects": {"else": [1, 4], "sold.1.all": [2, 5]}})
    assert (counts.number(SOLD, (ALL,)), counts.through) == (2, 5)


def test_later_process_continues_the_counts() -> None:
    """From the record, if it reaches further than the counts here."""
    first, second = EventCounts(PLACES), EventCounts(PLACES)
    first.take_all([((SOLD, ALL), 1), ((SOLD, "mail"), 2), ((OPENED, ALL), 3)])
    second.take_next((OPENED, ALL), 1)
    second.adopt(first.record())
    assert second.record() == first.record()
    assert (second.topics, second.head(SOLD)) == ({SOLD, OPENED}, 2)
    second.take_next((SOLD, ALL), 4)
    second.adopt(first.record())
    assert (second.number(SOLD, (ALL, "mail")), second.through) == (3, 4)
