"""Which groups have events left in a journal, read from the file while another process may hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.noted_events import NOTED
from lightbus.adapters.sqlite.topic import Topic
from lightbus.adapters.sqlite.undelivered import Behind, groups_behind
from lightbus.exceptions import JournalError

TOPIC = Topic("auth", "seen", 1)


def group(name: str, *events: str, api: str = "auth") -> KnownGroup:
    return KnownGroup(api, name, events, 1.0, 2.0, "d")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal that this process holds, with one event."""
    journal = Journal(tmp_path / "a.sqlite")
    journal.append([NewEvent(TOPIC, b"r", 1.0)])
    return journal


def handle(journal: Journal, name: str, sequence: int) -> None:
    journal.change(*journal.cursors.changes(cursors=[(name, TOPIC, sequence)]))


def test_groups_are_behind_until_they_have_handled_all(journal: Journal) -> None:
    """Whoever holds the journal; groups of other events and other APIs do not count."""
    for each in (group("shop", "seen"), group("mail", "*"), group("bank", "paid"), group("far", "seen", api="far")):
        journal.groups.save(each)
    assert groups_behind(journal.path, "auth") == {Behind(name, "seen", 1, 0) for name in ("shop", "mail")}
    head = journal.head
    handle(journal, "mail", head)
    assert groups_behind(journal.path, "auth") == {Behind("shop", "seen", 1, 0)}
    handle(journal, "shop", head)
    assert groups_behind(journal.path, "auth") == frozenset()
    journal.append([NewEvent(TOPIC, b"r", 1.0)])
    journal.close()
    assert {each.position for each in groups_behind(journal.path, "auth")} == {head}
    assert groups_behind(journal.path, "far") == frozenset()


def test_an_event_for_one_group_concerns_no_other(journal: Journal) -> None:
    """It is one that was delivered again after it had become a dead letter."""
    for each in (group("shop", "seen"), group("mail", "seen")):
        journal.groups.save(each)
        handle(journal, each.name, journal.head)
    journal.append([NewEvent(TOPIC.for_group("mail"), b"r", 1.0)])
    assert {each.group for each in groups_behind(journal.path, "auth")} == {"mail"}
    journal.close()


def test_a_noted_event_counts(journal: Journal) -> None:
    """It is not in the tables yet."""
    journal.groups.save(group("shop", "seen"))
    handle(journal, "shop", journal.head)
    journal.append_one(TOPIC, b"r", 1.0, more=True)
    assert journal.has_noted
    assert {each.group for each in groups_behind(journal.path, "auth")} == {"shop"}
    journal.close()


def test_noted_events_that_cannot_be_read_now(journal: Journal) -> None:
    """It is unknown then which groups are behind: nobody may take it for none."""
    journal.groups.save(group("shop", "seen"))
    handle(journal, "shop", journal.head)
    journal.append_one(TOPIC, b"r", 1.0, more=True)
    noted = Path(f"{journal.path}{NOTED}")
    kept = noted.rename(noted.with_name("kept"))
    noted.symlink_to(noted)  # cannot be opened, even by root
    with pytest.raises(JournalError, match="cannot be read"):
        groups_behind(journal.path, "auth")
    kept.replace(noted)
    assert {each.group for each in groups_behind(journal.path, "auth")} == {"shop"}
    journal.close()


def test_files_that_are_no_journals(tmp_path: Path) -> None:
    """One that is gone or damaged keeps nobody waiting; one that cannot be read now is an error."""
    assert groups_behind(tmp_path / "gone.sqlite", "auth") == frozenset()
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database" * 1000)
    assert groups_behind(damaged, "auth") == frozenset()
    (tmp_path / "directory.sqlite").mkdir()
    with pytest.raises(JournalError, match="cannot be read"):
        groups_behind(tmp_path / "directory.sqlite", "auth")
