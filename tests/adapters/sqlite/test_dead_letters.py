"""The dead letters of a journal: found by group and sequence, listed in portions, in order of insertion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic

ONE = Topic("auth", "seen", 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a new journal."""
    made = Journal(tmp_path / "00000000000000aa.sqlite")
    yield made
    made.close()


def test_dead_letters_are_listed_in_order_of_insertion(journal: Journal) -> None:
    """The clock does not matter; they are listed in portions, for one group or for all."""
    stored = journal.append([NewEvent(ONE, b"%d" % n, 1.0) for n in range(6)])
    for n, each in enumerate(stored):
        journal.dead_letters.add("shop" if n % 2 else "mail", ONE, each.sequence, 5, "error", 100.0 - n)
    letters = journal.dead_letters
    assert [each.record for each in letters.all()] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert [each.record for each in letters.all("shop", skip=1, limit=1)] == [b"3"]
    assert (letters.count(), letters.count("shop"), letters.count("none")) == (6, 3, 0)
    assert letters.get("shop", stored[1].sequence) == letters.all("shop")[0]
    assert letters.get("mail", stored[1].sequence) is None
    letters.remove([("shop", stored[1].sequence), ("shop", stored[3].sequence), ("shop", 7)])
    assert [each.record for each in letters.all("shop")] == [b"5"]


def test_dead_letters_are_listed_and_taken_out_once(journal: Journal) -> None:
    """Dead letters are listed with their records and errors, and each can be taken out once."""
    [stored] = journal.append([NewEvent(ONE, b"poison", 1.0)])
    journal.dead_letters.add("shop", ONE, stored.sequence, 5, "ValueError", 9.0)
    [dead] = journal.dead_letters.all()
    assert dead == ("shop", ONE, stored.sequence, b"poison", 5, "ValueError", 9.0)
    assert (journal.dead_letters.all("shop"), journal.dead_letters.all("other")) == ([dead], [])
    assert (journal.dead_letters.count("shop"), journal.dead_letters.count("other")) == (1, 0)
    assert (journal.dead_letters.has("shop", stored.sequence), journal.dead_letters.has("other", stored.sequence)) == (
        True,
        False,
    )
    assert (journal.topic_of(stored.sequence), journal.topic_of(7)) == (ONE, None)
    assert journal.dead_letters.take("other", stored.sequence) is None
    assert journal.dead_letters.take("shop", stored.sequence) == dead
    assert journal.dead_letters.take("shop", stored.sequence) is None
    assert (journal.dead_letters.count("shop"), journal.dead_letters.has("shop", stored.sequence)) == (0, False)
