"""Which events are deleted from a journal, when, and how that is reported."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from helpers.journals import DAY, ONE, event, page, rows, store, trim
from lightbus.adapters.sqlite import retention as module
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.topic import Topic


def test_deleted_event_is_no_dead_letter(journal: Journal) -> None:
    """Retention may delete an event that is still retried; an earlier dead letter stays one."""
    [stored] = store(journal, event(record=b"poison", at=0.0))
    assert journal.dead_letters.add("shop", ONE, stored.sequence, 5, "ValueError", 9.0)
    trim(journal, handled={}, now=9 * DAY)
    assert not journal.dead_letters.add("shop", ONE, stored.sequence, 6, "again", 10.0)
    assert not journal.dead_letters.add("mail", ONE, stored.sequence, 5, "ValueError", 10.0)
    assert [(dead.group, dead.record) for dead in journal.dead_letters.all()] == [("shop", b"poison")]


def test_old_and_handled_events_are_deleted(journal: Journal) -> None:
    """Unhandled and younger events stay; the id of a deleted event may be stored again."""
    stored = store(journal, event(at=0.0, id="a"), event(at=0.0), event(at=1.9 * DAY))
    assert trim(journal, handled={"shop": stored[0].sequence, "mail": stored[2].sequence}) == []
    assert [entry.sequence for entry in page(journal).entries] == [each.sequence for each in stored[1:]]
    assert trim(journal, handled={"shop": stored[2].sequence}) == []
    assert [entry.sequence for entry in page(journal).entries] == [stored[2].sequence]
    assert journal.retention.lost() == []
    [again] = journal.append([event(id="a")])
    assert again.is_new


def test_topic_without_known_groups_is_not_trimmed(journal: Journal) -> None:
    """Its groups are not known yet: its events are kept, however old they seem."""
    store(journal, event(at=0.0))
    assert journal.retention.trim(min_age=-DAY, max_events=10, max_bytes=10**9, cursors={}) == []
    assert journal.size[0] == 1


def test_without_a_group_age_decides(journal: Journal) -> None:
    """Events without a group are kept for their time, and no longer."""
    store(journal, event(at=0.0), event(at=1.9 * DAY))
    trim(journal, handled={})
    assert journal.size == (1, 1)
    assert not journal.retention.is_drained()
    trim(journal, handled={}, now=4 * DAY)
    assert journal.retention.is_drained()


@pytest.mark.parametrize("cap", [{"events": 4}, {"size": 40}])
def test_cap_deletes_unhandled_events_and_counts_them(journal: Journal, cap: dict[str, int]) -> None:
    """The oldest are deleted even if a group had not handled them; the loss is counted for the group, and reported."""
    stored = store(journal, *(event(record=b"x" * 10, at=1.9 * DAY) for _ in range(10)))
    handled = {"shop": stored[1].sequence, "mail": stored[-1].sequence}
    lost = trim(journal, handled=handled, **cap)
    kept = journal.size[0]
    assert kept <= 4
    assert lost == [("shop", ONE, 8 - kept)]
    assert [row[:3] for row in journal.retention.lost()] == [("shop", ONE, 8 - kept)]
    behind = page(journal, after=handled["shop"])
    assert (behind.trimmed, len(behind.entries), behind.more) == (8 - kept, kept, False)
    assert page(journal, after=stored[-1].sequence).trimmed == 0


def test_retention_ignores_the_time_of_day(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is changed while events are stored and trimmed: the journal's own time counts."""
    for n, clock in enumerate((1.8e9, 4e9, 0.0, 1.8e9, 1.8e9)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        store(journal, event(at=n * DAY / 2))
        trim(journal, handled={}, now=n * DAY / 2)
        assert journal.size[0] == min(n + 1, 3)


def test_cuts_are_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a cap is reached, few cuts are remembered; reported losses are about right, and never too few."""
    monkeypatch.setattr(module, "CHUNK", 2)
    stored = store(journal, *(event(at=1.9 * DAY) for _ in range(200)))
    assert trim(journal, handled={"shop": 0}, events=20) == [("shop", ONE, 180)]
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("SELECT count(*), sum(number) FROM cuts").fetchone() == (module.MAX_CUTS, 180)
    assert page(journal).trimmed == 180
    assert 70 <= page(journal, after=stored[109].sequence).trimmed <= 180


def test_the_size_is_known_without_counting(journal: Journal, path: Path) -> None:
    """It follows stored, deleted and rolled back events, and is right again after a crash."""
    store(journal, event(record=b"x" * 10, at=0.0, id="a"), event(record=b"x" * 20, at=1.9 * DAY))
    journal.append([event(record=b"x" * 99, id="a")])
    assert journal.size == (2, 30)
    trim(journal, handled={})
    assert journal.size == (1, 20)
    journal.append([event(record=b"x" * 5)])
    with contextlib.closing(sqlite3.connect(path)) as connection:  # a copy, as after a crash: not closed properly
        connection.execute("VACUUM INTO ?", (str(path.with_name("copy.sqlite")),))
    copy = Journal(path.with_name("copy.sqlite"))
    assert copy.size == (2, 25)
    copy.close()


def test_large_trim_leaves_no_large_log(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is written back before it becomes large."""
    journal.append([event(Topic("auth", "seen", n % 8), b"x" * 1000, 0.0) for n in range(400)])
    journal.checkpoint()
    monkeypatch.setattr("lightbus.adapters.sqlite.write_ahead_log.LARGE", 1000)
    trim(journal, handled={})
    assert journal.size == (0, 0)
    assert Path(f"{journal.path}-wal").stat().st_size < 20_000


def test_row_is_deleted_in_part(journal: Journal) -> None:
    """Events that are no longer needed are deleted from a row, later ones stay; also with a cap."""
    a, b, _, d = (each.sequence for each in journal.append([event(record=each) for each in (b"a", b"bb", b"c", b"d")]))
    assert trim(journal, handled={"shop": a}) == []
    assert (rows(journal), journal.size) == ([3], (3, 4))
    assert page(journal).entries[0].previous == a
    assert trim(journal, handled={"shop": b}, events=1) == [("shop", ONE, 1)]
    assert (rows(journal), journal.size) == ([1], (1, 1))
    assert page(journal).entries[0].sequence == d
