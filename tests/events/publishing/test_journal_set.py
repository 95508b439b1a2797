"""The journals of a process: opened once, adopted, given back; and never held without being served."""

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
from lightbus.config import Config
from lightbus.events.publishing import journal_set as module
from lightbus.events.publishing.journal_set import JournalSet, directory_of
from lightbus.exceptions import JournalError
from lightbus.membership.context import Identity

__all__ = ["journals"]


def test_nothing_is_opened_before_it_is_needed(journals: JournalSet, tmp_path: Path) -> None:
    """No directory is made before an event is stored; then there is one journal, for any number of threads."""
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
    """Those of all other journals of the service, open or not: events from now on are stored for them, too."""
    other = made(tmp_path)
    other.own().groups.save(SHOP)
    assert journals.own().groups.all() == [SHOP]
    other.close()


def test_an_unwritable_journal_is_released(
    journals: JournalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails after it was opened, it is released: another process may adopt it, or we later."""
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


def of_service(service: str, path: Path) -> JournalSet:
    """Return the journals of a process of another service."""
    identity = Identity(bus="b", service=service, process="p", instance="b" * 16, host="here")
    return JournalSet(Config.model_validate({"journal": {"data_dir": path / "data"}}), identity)


def test_a_service_whose_directory_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journals of the other services are served nevertheless; the error is raised when there is nothing else."""
    name = leave_one(tmp_path, SHOP)
    broken = of_service("zoo", tmp_path)
    store(broken.own())
    broken.close()
    journals, directory_of = of_service("shop", tmp_path), JournalSet._directory_of

    def refuse(self: JournalSet, service: str) -> Any:
        if service == "zoo":
            raise JournalError("it is another user's")
        return directory_of(self, service)

    monkeypatch.setattr(JournalSet, "_directory_of", refuse)
    assert [journal.id for journal in journals.adopt_others(())] == [name]
    with pytest.raises(JournalError, match="another user's"):
        journals.adopt_others(())
    journals.close()


def test_an_unwritable_journal_of_another_service_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an own one: the service, when it runs again, finds it free."""
    name = leave_one(tmp_path, SHOP)
    journals = of_service("shop", tmp_path)

    def full(*_: Any) -> None:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(GroupTable, "save", full)
        with pytest.raises(JournalError, match="the disk is full"):
            journals.journal_of("auth")
    other = made(tmp_path)
    assert other.own().id == name
    other.close()
    journals.close()


def test_a_disk_that_fills_up_is_reported(journals: JournalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the next event fails."""
    assert journals.problem == ""
    path = journals.own().path
    assert journals.problem == ""
    monkeypatch.setattr(
        "lightbus.events.publishing.journal_set.has_no_room", lambda directory: directory == path.parent
    )
    assert journals.problem == f"The journal {path} is on a full disk: make room."


def test_the_reason_for_refused_events_is_reported(journals: JournalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until an event is accepted, or for a while: for any reason, also to processes that fired none."""
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


def test_adopted_journals_are_served_and_given_back(journals: JournalSet, tmp_path: Path) -> None:
    """One is among the open journals after our own, until it is dropped; released ones are free for others."""
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


def test_a_journal_that_was_given_back_is_adopted_by_nobody(journals: JournalSet, tmp_path: Path) -> None:
    """Another process may have as many journals: the two would adopt it in turn. A process that starts continues it."""
    journals.own()
    name = leave_one(tmp_path)
    [adopted] = journals.adopt()
    other = made(tmp_path)
    other.own()
    journals.give_back(adopted)
    assert (other.adopt(), journals.adopt()) == ([], [])
    starts = made(tmp_path)
    assert starts.own().id == name
    starts.close()
    other.close()


def test_dropping_a_journal_that_was_released(journals: JournalSet, tmp_path: Path) -> None:
    """Another process may hold it by then, with events in it: the file stays."""
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


def test_a_volatile_file_system(
    journals: JournalSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, with the setting for another directory."""
    monkeypatch.setattr(module, "volatile_filesystem", lambda path: "tmpfs")
    journals.own()
    journals.adopt()
    assert caplog.text.count("which is on tmpfs: they are lost with it. Set LIGHTBUS_DATA_DIR") == 1
