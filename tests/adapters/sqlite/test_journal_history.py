"""Past events of a journal: by time, by name, by content."""

from __future__ import annotations

import pytest

from helpers.journals import ONE, TWO, event, rows, store
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.topic import Topic


def test_events_are_found_by_time_name_and_content(journal: Journal) -> None:
    """Events are found by time, by name and by content."""
    stored = journal.append([event(ONE, b"a", 1.0), event(TWO, b"b", 2.0), event(ONE, b"c", 3.0)])
    found = journal.history.latest("auth", "seen", start=2.0)
    assert [(topic, entry.record) for topic, entry in found] == [(TWO, b"b"), (ONE, b"c")]
    assert [entry.record for _, entry in journal.history.latest("auth", "*", stop=2.0, limit=1)] == [b"b"]
    assert journal.history.latest("auth", "other") == []
    assert journal.history.position_before(ONE, 3.0) == stored[0].sequence
    assert journal.history.position_before(ONE, 1.0) == 0
    assert journal.history.find(lambda record: record == b"b", b"b", "auth") == (TWO, stored[1].sequence)
    assert journal.history.find(lambda record: False, b"b", "auth") is None
    assert journal.record(stored[2].sequence) == b"c"
    assert journal.record(7) is None
    assert [journal.count_after(ONE, after) for after in (0, stored[0].sequence, journal.head)] == [2, 1, 0]
    assert journal.size == (3, 3)


def test_topic_that_begins_while_the_journal_is_scanned(journal: Journal) -> None:
    """Its first event is left to the next page, and not passed over as unwanted."""
    journal.append([event(ONE, b"a")])

    def is_wanted(topic: Topic) -> bool:
        journal.append([event(TWO, b"b")])
        return True

    entries, through, more = journal.history.scan(is_wanted, 0, limit=100, max_bytes=10**6)
    assert ([entry.record for _, entry in entries], more) == ([b"a"], False)
    entries, _, _ = journal.history.scan(lambda topic: True, through, limit=100, max_bytes=10**6)
    assert [entry.record for _, entry in entries] == [b"b"]


def test_scan_pages_through_the_wanted_topics(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal is read page by page; unwanted topics are examined, too."""
    stored = journal.append([event(ONE, b"a"), event(TWO, b"bb"), event(ONE, b"c"), event(TWO, b"d")])
    a, b, c, d = (each.sequence for each in stored)

    def kept(after: int, *wanted: Topic, limit: int = 100, max_bytes: int = 10**6) -> tuple[list[bytes], int, bool]:
        entries, through, more = journal.history.scan(
            lambda topic: topic in wanted, after, limit=limit, max_bytes=max_bytes
        )
        return [entry.record for _, entry in entries], through, more

    assert kept(0, ONE, TWO) == ([b"a", b"bb", b"c", b"d"], d, False)
    assert kept(b, ONE, TWO) == ([b"c", b"d"], d, False)
    assert kept(0, ONE) == ([b"a", b"c"], d, False)
    assert kept(0) == ([], d, False)
    assert kept(0, ONE, TWO, limit=2) == ([b"a", b"bb"], b, True)
    assert kept(0, TWO, limit=1) == ([b"bb"], c, True)
    assert kept(0, ONE, TWO, max_bytes=2) == ([b"a"], a, True)
    assert kept(a, TWO, max_bytes=1) == ([b"bb"], c, True)  # at least one event is returned
    assert kept(d, ONE, TWO) == ([], d, False)
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_history.MAX_EXAMINED", 2)
    assert kept(0, TWO) == ([b"bb"], b, True)
    assert kept(b, TWO) == ([b"d"], d, True)
    assert kept(d, TWO) == ([], d, False)


def test_page_before_reads_newest_first(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wanted topics and times only; each page says where the next one starts."""
    stored = [journal.append([event(topic, record, at)])[0] for topic, record, at in
              ((ONE, b"a", 10.0), (TWO, b"bb", 20.0), (ONE, b"c", 30.0), (TWO, b"d", 40.0))]  # fmt: skip
    a, b, c, d = (each.sequence for each in stored)

    def page(before: int, *wanted: Topic, limit: int = 100, max_bytes: int = 10**6, **times: float) -> object:
        between = {"start": None, "stop": None, **times}
        entries, further = journal.history.page_before(
            lambda topic: topic in wanted, before, limit=limit, max_bytes=max_bytes, **between
        )
        return [entry.record for _, entry in entries], further

    assert page(d + 1, ONE, TWO) == ([b"d", b"c", b"bb", b"a"], None)
    assert page(d, ONE, TWO, limit=2) == ([b"c", b"bb"], b)
    assert page(b, ONE, TWO, limit=2) == ([b"a"], None)
    assert page(d + 1, TWO) == ([b"d", b"bb"], None)
    assert page(d + 1) == ([], None)
    assert page(d + 1, ONE, TWO, max_bytes=2) == ([b"d", b"c"], c)
    assert page(c, TWO, max_bytes=1) == ([b"bb"], None)  # at least one event is returned
    assert page(d + 1, ONE, TWO, start=15.0, stop=35.0) == ([b"c", b"bb"], None)
    assert page(a, ONE, TWO) == ([], None)
    together = journal.append([event(ONE, b"e"), event(ONE, b"f")])
    assert page(together[-1].sequence + 1, ONE, limit=1) == ([b"f", b"e"], together[0].sequence)
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_history.MAX_EXAMINED", 2)
    assert page(d + 1, ONE) == ([b"c"], c)
    assert page(c, ONE) == ([b"a"], a)


def test_position_since_ignores_the_time_of_day(journal: Journal) -> None:
    """It is the newest event stored before the moment, in each topic, whatever the time of day was."""
    offset = journal.clock.offset
    stored = store(journal, *(event(ONE if n % 3 else TWO, at=float(n)) for n in range(40)))
    for n in range(41):
        for topic in (ONE, TWO):
            before = [each.sequence for k, each in enumerate(stored[:n]) if (ONE if k % 3 else TWO) == topic]
            assert journal.history.position_since(topic, n - 0.5 - offset) == (before[-1] if before else 0)
    assert journal.history.position_since(Topic("auth", "none", 1), 5.0) == 0


def test_time_of_a_shared_row_is_widened(journal: Journal) -> None:
    """Its events are at most a tenth of a second apart; a group since a time gets rather too many."""
    journal.append([event(record=b"old", at=1.0)])
    a, *_ = journal.append([event(record=str(n).encode(), at=1000 + n / 100) for n in range(8)])
    journal.append([event(record=b"new", at=1001.0)])
    assert rows(journal) == [1, 8, 1]
    for since in (999.0, 1000.045, 1000.07):
        assert journal.history.position_before(ONE, since) == a.previous
        found = [entry.record for _, entry in journal.history.latest("auth", "seen", start=since)]
        assert found == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"new"]
    assert journal.history.position_before(ONE, 1000.5) == a.sequence + 7
    assert [entry.record for _, entry in journal.history.latest("auth", "seen", stop=999.95)][-1] == b"7"
    assert [entry.record for _, entry in journal.history.latest("auth", "seen", stop=999.0)] == [b"old"]
