"""A consumer delivers every event in order, once, despite losses, delays and repeats."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helpers import examples
from lightbus.core import streams as module
from lightbus.core.ordering import Order, Watermark
from lightbus.core.streams import HIGH, UNCONFIRMED, AckPosition, Entry, LiveStream, Stream, entry_of


def entries(first: int, last: int) -> list[list[Any]]:
    """Return the events between two sequences, each with its predecessor."""
    return [[sequence, sequence - 1, b"r%d" % sequence] for sequence in range(first, last + 1)]


def handle(stream: Stream, count: int = 10**6) -> list[int]:
    """Deliver and finish the ready events, and return their sequences."""
    handled = []
    while stream.can_deliver and len(handled) < count:
        entry = stream.take()
        handled.append(entry.sequence)
        stream.done(entry)
    return handled


def test_live_events_are_delivered() -> None:
    """The next ones are accepted; known ones are not accepted again."""
    stream = Stream("t", cursor=2)
    assert stream.live(entries(3, 5)) == 3
    assert stream.live(entries(4, 6)) == 1
    assert handle(stream) == [3, 4, 5, 6]
    assert (stream.position, stream.handled, stream.head) == (6, 6, 6)
    assert stream.wanted() is None


def test_gap_is_requested() -> None:
    """An event without its predecessor is not accepted, and the missing ones are requested once."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 2))
    assert stream.live([[5, 4, b"r5"]]) == 0
    assert stream.wanted() == 2
    assert stream.wanted() is None
    assert stream.page(entries(3, 5), 5) == 3
    assert handle(stream) == [1, 2, 3, 4, 5]


def test_events_during_a_request_are_held_back() -> None:
    """They follow the answer, and need not be requested again."""
    stream = Stream("t", cursor=0, head=3)
    assert stream.wanted() == 0
    assert stream.live(entries(4, 6)) == 0
    stream.page(entries(1, 3), 3)
    assert handle(stream) == [1, 2, 3, 4, 5, 6]
    assert stream.wanted() is None


def test_too_many_held_back_events_are_requested() -> None:
    """Memory is bounded; dropped events are noticed as missing."""
    stream = Stream("t", cursor=0, head=1)
    assert stream.wanted() == 0
    for first in range(2, 2 * HIGH, 100):
        stream.live(entries(first, first + 99))
    stream.page(entries(1, 1), 1)
    assert handle(stream, 1) == [1]
    assert stream.wanted() is not None


def test_waiting_events_are_bounded() -> None:
    """Beyond the bound published events wait in the journal, and are requested when few are left."""
    stream = Stream("t", cursor=0)
    assert stream.live(entries(1, HIGH)) == HIGH
    assert stream.live(entries(HIGH + 1, HIGH + 10)) == 0
    assert stream.wanted() is None
    while handle(stream):
        told = stream.next_ack()
        assert told is not None
        stream.ack_confirmed(told)
    assert stream.wanted() == HIGH


def test_failed_request_is_repeated() -> None:
    """Without an answer it is still due."""
    stream = Stream("t", cursor=0, head=3)
    assert stream.wanted() == 0
    stream.request_failed()
    assert stream.wanted() == 0


def test_trimmed_events_are_skipped_and_counted() -> None:
    """A page may reach further than its events: those in between are deleted, and not waited for."""
    stream = Stream("t", cursor=0, head=9)
    stream.wanted()
    stream.page([[8, 3, b"r8"]], 9, trimmed=5)
    assert handle(stream) == [8]
    assert (stream.handled, stream.trimmed, stream.next_ack()) == (9, 5, AckPosition(9, 1))


def test_one_event_at_a_time() -> None:
    """While one is in progress, no other is delivered."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 2))
    entry = stream.take()
    assert not stream.can_deliver
    stream.done(entry)
    assert stream.can_deliver


def test_each_position_is_acknowledged_once() -> None:
    """Also if it was not confirmed; and the number of unconfirmed events is bounded."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 2 * UNCONFIRMED))
    assert len(handle(stream)) == UNCONFIRMED
    assert (stream.next_ack(), stream.next_ack()) == (AckPosition(UNCONFIRMED, UNCONFIRMED), None)
    stream.ack_failed()
    told = stream.next_ack()
    assert told == AckPosition(UNCONFIRMED, UNCONFIRMED)
    stream.ack_confirmed(told)
    assert len(handle(stream)) == UNCONFIRMED


def test_confirmation_makes_room() -> None:
    """Several acknowledgements may be unconfirmed; each confirmation makes room for its events."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 2 * UNCONFIRMED))
    handle(stream, 100)
    first = stream.next_ack()
    handle(stream, 50)
    second = stream.next_ack()
    assert first is not None
    assert (first, second) == (AckPosition(100, 100), AckPosition(150, 150))
    stream.ack_confirmed(first)
    assert len(handle(stream)) == UNCONFIRMED - 50
    stream.ack_confirmed(AckPosition(50, 50))  # a late confirmation of an earlier position changes nothing
    assert stream.confirmed == 100


def test_left_stream_is_no_longer_merged() -> None:
    """Its waiting events are dropped; the event in progress continues."""
    order: Order[Stream] = Order()
    stream = Stream("t", cursor=0, order=order, watermark=Watermark())
    stream.live(entries(1, 3))
    assert stream.take() is not None
    assert stream.leave() is order
    assert (stream.order, len(stream.ready), stream.in_progress) == (None, 0, 1)
    assert stream.leave() is None


def test_dropped_events_are_not_acknowledged() -> None:
    """If the partition moves while an event is in progress, only that one counts as handled."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 10))
    handle(stream, 2)
    entry = stream.take()
    stream.drop()
    stream.done(entry)
    assert (stream.handled, stream.next_ack()) == (3, AckPosition(3, 3))


def test_put_back_events_are_requested_again() -> None:
    """No later event is delivered before an event that was not handled."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 5))
    handle(stream, 1)
    stream.take()
    stream.put_back()
    assert not stream.can_deliver
    assert stream.wanted() == 1
    stream.page(entries(2, 5), 5)
    assert handle(stream) == [2, 3, 4, 5]


def test_answer_from_before_a_drop_is_ignored() -> None:
    """It begins after the dropped events: those are requested first, and nothing after them is acknowledged."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 10))
    stream.note_head(20)
    assert stream.wanted() == 10
    stream.take()
    stream.put_back()
    assert stream.page(entries(11, 20), 20, trimmed=3) == 0
    assert (handle(stream), stream.next_ack(), stream.trimmed) == ([], None, 0)
    assert stream.wanted() == 0
    stream.page(entries(1, 20), 20)
    assert handle(stream) == list(range(1, 21))


def test_events_handled_elsewhere_are_skipped() -> None:
    """A stream that replaces another continues after the events that the other finished."""
    stream = Stream("t", cursor=0)
    stream.live(entries(1, 5))
    assert stream.skip(3) == 3
    assert handle(stream) == [4, 5]
    assert stream.skip(9) == 0
    assert stream.live(entries(6, 10)) == 1


def test_possible_deliveries_end() -> None:
    """Only as many events are possibly delivered as a member may handle unconfirmed."""
    stream = Stream("t", cursor=0, head=2000, possibly_delivered=2000)
    stream.live(entries(1, HIGH))
    possible = 0
    while stream.can_deliver:
        entry = stream.take()
        possible += stream.is_possibly_delivered(entry)
        stream.done(entry)
        told = stream.next_ack()
        assert told is not None
        stream.ack_confirmed(told)
    assert possible == UNCONFIRMED
    assert not Stream("t", cursor=5, possibly_delivered=7).is_possibly_delivered(Entry(8, 7, b""))


def test_best_effort_counts_missing_events() -> None:
    """All received events are delivered; gaps are counted, except before the first event."""
    stream = LiveStream("t")
    stream.note_head(4)
    stream.live([[5, 4, b""], [6, 5, b""], [9, 8, b""]])
    assert stream.missed == 2
    assert (stream.wanted(), stream.next_ack()) == (None, None)
    assert [entry[0] for entry in stream.ready] == [5, 6, 9]
    for _ in range(2):
        stream.note_head(12)
    assert stream.missed == 5
    stream.live([[14, 13, b""]])
    assert (stream.missed, stream.wanted(), stream.awaits_events) == (6, None, False)


def test_best_effort_does_not_count_earlier_events() -> None:
    """Before the first event, the newest published one is no loss."""
    stream = LiveStream("t")
    stream.note_head(12)
    assert stream.missed == 0
    stream.live([[13, 12, b""]])
    assert stream.missed == 0


@given(st.integers(0, 2**32), st.integers(1, 300))
def test_all_events_are_delivered_in_order(seed: int, count: int) -> None:
    """
    Frames are lost, late or repeated, requests fail, and a lost consumer is replaced by one that starts at the cursor.

    Each consumer handles each event once, in the order of the topic. An event is only handled by a second consumer if
    its acknowledgement was not stored.
    """
    chance, journal = random.Random(seed), entries(1, count)
    published = stored = 0
    handled: list[int] = []
    stream = Stream("t", cursor=0)
    asked: int | None = None
    waiting: list[list[Any]] = []
    steps = 0
    while stored < count:
        steps += 1
        calm = steps > 50 * count  # at the end the network loses nothing any more
        what = chance.choice(["publish", "lose", "arrive", "ask", "answer", "fail", "handle", "tell", "crash", "head"])
        if what == "publish" and published < count:
            size = chance.randint(1, 20)
            waiting.append(journal[published : published + size])
            published = min(count, published + size)
        elif what == "lose" and waiting and not calm:
            waiting.pop(chance.randrange(len(waiting)))
        elif what == "arrive" and waiting:
            frame = waiting[chance.randrange(len(waiting))]
            stream.live(frame)
            if chance.random() < 0.9:
                waiting.remove(frame)
        elif what == "head":
            stream.note_head(published)
        elif what == "ask" and asked is None:
            asked = stream.wanted()
        elif what == "answer" and asked is not None:
            page = journal[asked : min(published, asked + chance.randint(1, 30))]
            stream.page(page, page[-1][0] if page else published)
            asked = None
        elif what == "fail" and asked is not None and not calm:
            stream.request_failed()
            asked = None
        elif what == "handle":
            handled += handle(stream, chance.randint(1, 20))
        elif what == "tell" and (told := stream.next_ack()) is not None:
            if chance.random() < 0.8 or calm:
                stored = told.sequence
                stream.ack_confirmed(told)
            else:
                stream.ack_failed()
        elif what == "crash" and chance.random() < 0.05 and not calm:
            handled = [*handled, -stored]
            stream, asked = Stream("t", cursor=stored, head=published), None
    _check(handled, count)


def _check(handled: list[int], count: int) -> None:
    expected, seen = 1, set()
    for sequence in handled:
        if sequence <= 0:
            expected = 1 - sequence  # another consumer starts after the stored cursor
        else:
            assert sequence == expected
            seen.add(sequence)
            expected += 1
    assert seen == set(range(1, count + 1))


class Following(RuleBasedStateMachine):
    """A journal, a network that loses, delays and repeats, and one consumer at a time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Entry] = []
        self.trimmed: set[int] = set()
        self.late: list[list[Entry]] = []
        self.asked: int | None = None
        self.stored = 0
        self.done: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Start after the stored cursor, like a consumer that replaces another."""
        self.stream = Stream("t", cursor=self.stored, head=self.head)
        self.in_progress: list[Entry] = []
        self.last = self.stored

    @property
    def head(self) -> int:
        """The newest sequence."""
        return self.log[-1].sequence if self.log else 0

    @rule(
        steps=st.lists(st.sampled_from([1, 1, 2, 7, 2**40]), min_size=1, max_size=8),
        fate=st.sampled_from(["arrives", "arrives", "late", "lost"]),
    )
    def publish(self, steps: list[int], fate: str) -> None:
        """Number over all topics, sometimes with a new epoch: sequences have gaps without losses."""
        before = len(self.log)
        for step in steps:
            self.log.append(Entry(self.head + step, self.head, b""))
        if fate == "arrives":
            self.stream.live(self.log[before:])
        elif fate == "late":
            self.late.append(self.log[before:])

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 9), again=st.booleans())
    def arrive_late(self, which: int, again: bool) -> None:
        frame = self.late.pop(which % len(self.late))
        self.stream.live(frame)
        if again:
            self.late.append(frame)

    @precondition(lambda self: self.asked is None)
    @rule()
    def ask(self) -> None:
        self.stream.note_head(self.head)
        self.asked = self.stream.wanted()

    @precondition(lambda self: self.asked is not None)
    @rule(limit=st.integers(0, 10))
    def answer(self, limit: int) -> None:
        asked, self.asked = self.asked, None
        assert asked is not None
        behind = [entry for entry in self.log if entry.sequence > asked]
        found = [entry for entry in behind if entry.sequence not in self.trimmed]
        page = found[:limit]
        through = page[-1].sequence if page and len(found) > limit else max(self.head, asked)
        if limit:
            self.stream.page(page, through, trimmed=len(behind) - len(found))
        else:
            self.stream.request_failed()

    @precondition(lambda self: not self.in_progress and self.stream.can_deliver)
    @rule(most=st.integers(1, 5), span=st.integers(0, 9))
    def take(self, most: int, span: int) -> None:
        """Take one, or several together."""
        if most == 1:
            self.in_progress = [self.stream.take()]
        else:
            before = self.stream.ready[0][0] + span
            self.in_progress = [*map(entry_of, self.stream.take_many(before, most))]
            self.stream.in_progress = len(self.in_progress)
            assert all(entry.sequence < before for entry in self.in_progress)
            assert bool(self.in_progress) == (span > 0)

    @precondition(lambda self: self.in_progress)
    @rule(handled=st.integers(0, 5), is_given_back=st.booleans(), is_one_failed=st.booleans())
    def finish(self, handled: int, is_given_back: bool, is_one_failed: bool) -> None:
        """Finish the first events in progress; the others are put back, unless the next one fails."""
        begun, left = self.in_progress[:handled], self.in_progress[handled:]
        self.in_progress = []
        if left and is_given_back:
            self.stream.return_unstarted(left[is_one_failed:])
        for entry in begun:
            assert entry.sequence > self.last, "twice"
            skipped = {each.sequence for each in self.log if self.last < each.sequence < entry.sequence}
            assert skipped <= self.trimmed, "out of order"
            self.last = entry.sequence
        if begun:
            self.stream.done(begun[-1], len(begun))
            self.done.update(entry.sequence for entry in begun)
        if left and (is_one_failed or not is_given_back):
            self.stream.put_back()

    @rule(is_stored=st.booleans())
    def tell(self, is_stored: bool) -> None:
        told = self.stream.next_ack()
        if told is None:
            return
        if is_stored:
            self.stored = told.sequence
            self.stream.confirmed = max(self.stream.confirmed, told.events)
        else:
            self.stream.ack_failed()

    @rule(share=st.floats(0, 1))
    def trim(self, share: float) -> None:
        """Delete the oldest events, handled or not: a cap was exceeded."""
        count = int(share * len(self.log))
        self.trimmed |= {entry.sequence for entry in self.log[:count]}

    @rule()
    def crash(self) -> None:
        self.asked = None
        self.begin()

    @invariant()
    def nothing_is_acknowledged_that_was_not_handled(self) -> None:
        owed = {entry.sequence for entry in self.log if entry.sequence <= self.stored}
        assert owed <= self.done | self.trimmed

    def teardown(self) -> None:
        """When the network loses nothing any more, everything arrives, and is acknowledged."""
        for _ in range(3 * len(self.log) + 10):
            if self.asked is None:
                self.ask()
            if self.asked is not None:
                self.answer(10)
            if not self.in_progress and self.stream.can_deliver:
                self.take(4, 2**41)
            if self.in_progress:
                self.finish(4, is_given_back=True, is_one_failed=False)
            self.tell(True)
        assert {entry.sequence for entry in self.log} <= self.done | self.trimmed
        assert self.stored == self.head


TestFollowing = pytest.mark.long(Following.TestCase)
TestFollowing.settings = settings(max_examples=examples(3000))


def test_unconfirmed_events_are_bounded_by_possibly_delivered() -> None:
    """A member may handle no more unconfirmed events than count as possibly delivered when it is gone."""
    assert module.UNCONFIRMED <= module.HIGH
    assert module.LOW < module.HIGH
