"""Delivery counts: until the event is acknowledged, and once for each asker."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.wire import envelope
from lightbus.wire.envelope import Started

ONE = Topic("auth", "seen", 1)
FILE = "00000000000000aa.sqlite"


def test_deliveries_are_counted_until_acknowledged(tmp_path: Path) -> None:
    """Each recorded delivery has the next number, at least the given one; an acknowledgement removes the count."""
    journal = Journal(tmp_path / FILE)
    [stored] = journal.append([NewEvent(ONE, b"r", 1.0)])
    deliveries = journal.deliveries
    assert deliveries.failing("shop") == {}
    numbers = [deliveries.count("shop", ONE, stored.sequence, least) for least in (2, 2, 7, 1)]
    assert numbers == [2, 3, 7, 8]
    assert deliveries.of("shop", ONE, stored.sequence) == 8
    assert deliveries.failing("shop") == {ONE: stored.sequence}
    journal.change(*journal.cursors.changes(cursors=[("shop", ONE, stored.sequence)]))
    assert deliveries.failing("shop") == {}
    journal.close()


def test_delivery_numbers_are_bounded(tmp_path: Path) -> None:
    """A consumer that claims the largest number gets the largest number, and the next request is answered, too."""
    journal = Journal(tmp_path / FILE)
    [stored] = journal.append([NewEvent(ONE, b"r", 1.0)])
    most = 2**31 - 1
    numbers = [journal.deliveries.count("shop", ONE, stored.sequence, least) for least in (most, 1, 1)]
    assert numbers == [most] * 3
    assert envelope.decode(envelope.encode(Started(numbers[-1]), 1)) == (1, Started(most))
    journal.close()


def test_asker_survives_reopening(tmp_path: Path) -> None:
    """A repeated request gets the same answer; another asker, sequence or group does not. It goes with the group."""
    journal = Journal(tmp_path / FILE)
    [first, second] = journal.append([NewEvent(ONE, b"r", 1.0)] * 2)
    assert journal.deliveries.count("shop", ONE, first.sequence, 3, "me 1") == 3
    journal.close()
    journal = Journal(tmp_path / FILE)
    answer_to = journal.deliveries.answer_to
    assert answer_to("me 1", "shop", ONE, first.sequence) == 3
    others = [("me 2", "shop", first), ("me 1", "mail", first), ("me 1", "shop", second)]
    assert [answer_to(asker, group, ONE, each.sequence) for asker, group, each in others] == [0, 0, 0]
    journal.groups.remove("auth", "shop")
    assert answer_to("me 1", "shop", ONE, first.sequence) == 0
    journal.close()


def test_old_journal_gets_the_table_of_askers(tmp_path: Path) -> None:
    """A journal written without that table gets it when it is opened."""
    Journal(tmp_path / FILE).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("DROP TABLE starts")
    connection.close()
    journal = Journal(tmp_path / FILE)
    [stored] = journal.append([NewEvent(ONE, b"r", 1.0)])
    assert journal.deliveries.answer_to("me 1", "shop", ONE, stored.sequence) == 0
    assert journal.deliveries.count("shop", ONE, stored.sequence, 1, "me 1") == 1
    journal.close()
