"""The table of groups in a journal."""

from __future__ import annotations

from pathlib import Path

from helpers.journals import ONE, event, group
from lightbus.adapters.sqlite.group_table import KnownGroup, group_of_row
from lightbus.adapters.sqlite.journal import Journal


def test_groups_are_replaced_and_removed(journal: Journal) -> None:
    """A group is stored once, as it was saved last; removing it removes only what belongs to it."""
    [stored] = journal.append([event(ONE)])
    journal.groups.save(group("shop"))
    journal.groups.save(group("mail"))
    journal.groups.save(group("shop", created_at=7.0))
    assert sorted(journal.groups.all()) == [group("mail"), group("shop", created_at=7.0)]
    for name in ("shop", "mail"):
        journal.change(*journal.cursors.changes(cursors=[(name, ONE, stored.sequence)], held=[("auth", name, 1, True)]))
        journal.deliveries.count(name, ONE, stored.sequence, 1)
    journal.groups.remove("auth", "shop")
    assert journal.groups.all() == [group("mail")]
    for name, is_known in (("shop", False), ("mail", True)):
        assert bool(journal.cursors.of("auth", name)) is is_known
        assert bool(journal.cursors.held("auth", name)) is is_known
        assert bool(journal.deliveries.of(name, ONE, stored.sequence)) is is_known


def test_group_times_are_returned_in_machine_time(journal: Journal, path: Path) -> None:
    """They are stored in the journal's own time, and returned in the machine's time, in any process."""
    journal.clock.offset = 100.0
    journal.groups.save(group(created_at=5.0))
    with journal.reader() as read:
        [row] = read.execute("SELECT * FROM groups").fetchall()
    assert (row[3], row[4]) == (105.0, 102.0)
    assert group_of_row(row, 90.0) == KnownGroup("auth", "shop", ("seen",), 15.0, 12.0, "d")
