"""Cursors of groups are stored in the journal."""

from __future__ import annotations

from pathlib import Path

from helpers.journals import ONE, TWO, event, group
from lightbus.adapters.sqlite.journal import Journal


def test_groups_cursors_and_holders_survive_reopening(journal: Journal, path: Path) -> None:
    """Groups, cursors and the holders of partitions are stored in the journal."""
    [one, two] = journal.append([event(ONE), event(TWO)])
    journal.groups.save(group())
    journal.change(
        *journal.cursors.changes(
            cursors=[("shop", ONE, one.sequence)], held=[("auth", "shop", 1, True), ("auth", "shop", 2, True)]
        )
    )
    journal.change(*journal.cursors.changes(held=[("auth", "shop", 2, False)]))
    journal.close()
    reopened = Journal(path)
    assert reopened.groups.all() == [group()]
    assert reopened.cursors.of("auth", "shop") == {ONE: one.sequence}
    assert reopened.cursors.of("other", "shop") == {}
    assert reopened.cursors.held("auth", "shop") == {1: reopened.epoch - 1}
    reopened.append([event(ONE)])
    assert reopened.history.last_of_epoch(ONE, reopened.epoch - 1) == one.sequence
    assert reopened.history.last_of_epoch(ONE, reopened.epoch) == reopened.topics.last(ONE)
    reopened.groups.remove("auth", "shop")
    cursors = reopened.cursors
    assert (reopened.groups.all(), cursors.of("auth", "shop"), cursors.held("auth", "shop")) == ([], {}, {})
    assert two.sequence == reopened.topics.last(TWO)
    reopened.close()
