"""The journals of a process: opened once, adopted, given away; and never held without being served."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.journal_sets import SHOP, journals, leave_one, made, store
from lightbus.adapters.sqlite import journal as journal_module
from lightbus.adapters.sqlite.group_table import GroupTable
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.publishing import journal_set as module
from lightbus.events.publishing.journal_set import JournalSet, directory_of
from lightbus.exceptions import JournalError

__all__ = ["journals"]


def test_it_opens_nothing_before_it_is_needed(journals: JournalSet, tmp_path: Path) -> None:
    """No directory is made before something is to be kept; then there is one journal, however many threads ask."""
    opened: list[Journal] = []
    end = journals.observe(opened.append)
    assert (journals.all(), journals.opened, (tmp_path / "data").exists()) == ([], None, False)
    with ThreadPoolExecutor(8) as threads:
        found = {id(each) for each in threads.map(lambda _: journals.own(), range(8))}
    assert found == {id(journals.opened)}
    assert {each.id for each in opened} == {journals.own().id}
    end()
    opened.clear()
    assert journals.get(journals.own().id) is journals.own()
    assert journals.get("none") is None
    assert journals.own().path.parent == directory_of(journals._config, "b") / "auth"
    journals.release()
    assert (journals.own().is_closed, opened) == (False, [])


def test_a_new_journal_learns_the_groups(journals: JournalSet, tmp_path: Path) -> None:
    """Those of all others of the service, whoever holds them: what is fired from now on is owed to them, too."""
    other = made(tmp_path)
    other.own().groups.save(SHOP)
    assert journals.own().groups.all() == [SHOP]
    other.close()


def test_a_journal_that_cannot_be_written_is_not_kept(
    journals: JournalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it fails behind the opening, the journal is let go of: somebody else may adopt it, or we the next time."""
    name = leave_one(tmp_path, SHOP)

    def full(*_: Any) -> None:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(GroupTable, "save", full)
        with pytest.raises(JournalError, match="the disk is full"):
            journals.own()
        assert journals.problem == "the disk is full"
    other = made(tmp_path)
    assert [journal.id for journal in other.adopt()] == [name]
    other.close()
    journals.own()
    assert journals.problem == ""


def test_a_disk_that_gets_full_is_told_of(journals: JournalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be found out by the next event."""
    assert journals.problem == ""
    path = journals.own().path
    assert journals.problem == ""
    monkeypatch.setattr(
        "lightbus.events.publishing.journal_set.has_no_room", lambda directory: directory == path.parent
    )
    assert journals.problem == f"The journal {path} is on a full disk: make room."


def test_why_events_are_not_taken_is_told(journals: JournalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until others are taken, or for a while: whatever it is, and whoever asks need not have fired them."""
    journal = journals.own()
    event = NewEvent(Topic("auth", "seen", 1), b"e", 1.0)
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked by another program"):
            journal.append([event])
        assert re.match(r"The latest attempt, \d+ s ago, failed: .* is locked. It is locked by an", journals.problem)
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "TOLD_FOR", 0.0)
            assert journals.problem == ""
        other.execute("ROLLBACK")
    assert journals.problem != ""
    journal.append([event])
    assert journals.problem == ""


def test_what_is_adopted_is_served_and_given_back(journals: JournalSet, tmp_path: Path) -> None:
    """It is among the open journals behind our own, until it is dropped; released ones are free for others."""
    name = leave_one(tmp_path)
    own = journals.own()  # continues the one that is free
    assert own.id == name
    name = leave_one(tmp_path)
    assert [journal.id for journal in journals.adopt()] == [name]
    assert [journal.id for journal in journals.all()] == [own.id, name]
    adopted = journals.get(name)
    assert adopted is not None
    journals.drop(adopted)
    assert (journals.all(), adopted.path.exists()) == ([own], False)
    journals.release()
    other = made(tmp_path)
    store(other.own())
    assert other.own().id == own.id
    assert journals.own().id != own.id  # it opens again
    other.close()


def test_dropping_what_was_released_meanwhile(journals: JournalSet, tmp_path: Path) -> None:
    """It may be somebody else's by then, with events in it: the file stays."""
    journals.own()
    name = leave_one(tmp_path)
    [adopted] = journals.adopt()
    journals.release()
    other = made(tmp_path)
    taken = [other.own(), *other.adopt()]
    journals.drop(adopted)
    assert name in {journal.id for journal in taken}
    assert adopted.path.exists()
    other.close()


def test_a_closed_set(journals: JournalSet, tmp_path: Path) -> None:
    """Nothing is opened any more, and the error says so."""
    leave_one(tmp_path)
    journals.close()
    with pytest.raises(JournalError, match="The bus was closed"):
        journals.own()
    assert journals.adopt() == []


def test_a_file_system_that_does_not_stay(
    journals: JournalSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says so, once, with the setting that leads elsewhere."""
    monkeypatch.setattr(module, "volatile_filesystem", lambda path: "tmpfs")
    journals.own()
    journals.adopt()
    assert caplog.text.count("which is on tmpfs: they are lost with it. Set LIGHTBUS_DATA_DIR") == 1
