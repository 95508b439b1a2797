"""The journals of a process: opened once, adopted, looked after, given away; and never held without being served."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.adapters.sqlite import journal as journal_module
from lightbus.adapters.sqlite.group_table import GroupTable, KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.retention import Retention
from lightbus.adapters.sqlite.topic import Topic
from lightbus.config import Config
from lightbus.events.publishing import journal_set as module
from lightbus.events.publishing.journal_set import JournalMaintenance, JournalSet, directory_of
from lightbus.exceptions import JournalError
from lightbus.membership.context import Identity

TOPIC = Topic("auth", "seen", 1)
SHOP = KnownGroup("auth", "shop", ("seen",), 1.0, 2.0, "d")


def made(path: Path, **journal: Any) -> JournalSet:
    """Return the journals of one more process of a service."""
    config = Config.model_validate({"journal": {"data_dir": path / "data", **journal}})
    return JournalSet(config, Identity(bus="b", service="auth", process="p", instance="a" * 16, host="here"))


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[JournalSet]:
    """Return a set of journals that keep nothing that was handled."""
    journals = made(tmp_path, min_age=0.001)
    yield journals
    journals.close()


def store(journal: Journal, at: float = 1.0) -> int:
    """Store an event."""
    return journal.append([NewEvent(TOPIC, b"r", at)])[0].sequence


def leave_one(path: Path, *groups: KnownGroup) -> str:
    """Leave a journal with an event that nobody holds; return its name."""
    other = made(path)
    store(other.own())
    for group in groups:
        other.own().groups.save(group)
    name = other.own().id
    other.close()
    return name


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
    assert caplog.text.count("which is on tmpfs: they are gone when that is. Set LIGHTBUS_DATA_DIR") == 1


class Coordinates:
    """Who knows what groups are owed."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.forgotten: list[str] = []
        self.losses: list[tuple[str, int]] = []
        self.handled = 0
        self.idle: list[KnownGroup] = []

    def journal_added(self, journal: Journal) -> None:
        self.added.append(journal.id)

    def journal_removed(self, journal: Journal) -> None:
        self.removed.append(journal.id)

    def owed(self, journal: Journal, topic: Topic) -> dict[str, int]:
        return {"shop": self.handled}

    def expired(self, now: float, group_expiry: float) -> list[KnownGroup]:
        idle, self.idle = self.idle, []
        return [info for info in idle if now - info.last_seen > group_expiry]

    def forget(self, api: str, name: str) -> bool:
        self.forgotten.append(name)
        return True

    def lost(self, group: str, api: str, event: str, count: int) -> None:
        self.losses.append((group, count))


@contextlib.asynccontextmanager
async def cared_for(journals: JournalSet) -> AsyncIterator[Coordinates]:
    """Have the journals of a set looked after."""
    coordinates = Coordinates()
    with ThreadPoolExecutor(1) as threads:
        care = JournalMaintenance(journals, coordinates, journals._config, threads)
        try:
            yield coordinates
        finally:
            await care.stop()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have journals looked after all the time."""
    for name in ("ADOPT_EVERY", "CHECKPOINT_EVERY", "TRIM_EVERY"):
        monkeypatch.setattr(module, name, 0.01)


def test_journals_are_adopted_and_dropped_when_drained(journals: JournalSet, tmp_path: Path, often: None) -> None:
    """One whose process has ended is served until its events are old and handled, and then it is gone."""
    own = journals.own()
    store(own)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            name = leave_one(tmp_path)
            await wait_until_async(lambda: coordinates.added == [name])
            adopted = journals.get(name)
            assert adopted is not None
            coordinates.handled = adopted.head
            await wait_until_async(lambda: coordinates.removed == [name] and not adopted.path.exists())
            await wait_until_async(lambda: journals.all() == [own] and own.size == (0, 0))

    asyncio.run(test())
    assert own.path.exists()


async def nothing_to_trim(care: JournalMaintenance) -> None:
    """Delete nothing, as where all events are new."""


def test_many_adopted_journals_are_given_back(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that everybody has handled only some are kept open; a process that starts continues one that is not."""
    monkeypatch.setattr(module, "MAX_ADOPTED", 3)
    monkeypatch.setattr(JournalMaintenance, "_trim", nothing_to_trim)
    store(journals.own())

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            for _ in range(5):
                name = leave_one(tmp_path)
                await wait_until_async(lambda name=name: name in coordinates.added)
            assert (len(journals.all()), coordinates.removed) == (6, [])
            coordinates.handled = 2**62
            await wait_until_async(lambda: len(journals.all()) == 4)
            given_back = coordinates.removed[:]
            starts = made(tmp_path)
            assert starts.own().id in given_back
            name = starts.own().id
            store(starts.own())
            starts.close()
            await wait_until_async(lambda: coordinates.added.count(name) == 2)  # there is something new in it
            assert len(coordinates.added) == 6

    asyncio.run(test())


def test_what_is_not_handled_is_kept_open(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: a journal of which somebody is owed something, or in which there is a dead letter."""
    monkeypatch.setattr(module, "MAX_ADOPTED", 0)
    monkeypatch.setattr(JournalMaintenance, "_trim", nothing_to_trim)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            name = leave_one(tmp_path)
            await wait_until_async(lambda: coordinates.added == [name])
            adopted = journals.get(name)
            assert adopted is not None
            assert adopted.dead_letters.add("shop", TOPIC, adopted.topics.lasts[TOPIC], 1, "an error", 1.0)
            coordinates.handled = adopted.head
            journals.own()
            late = leave_one(tmp_path)
            await wait_until_async(lambda: late in coordinates.added)
            assert name not in coordinates.removed

    asyncio.run(test())


def test_the_log_is_written_back(journals: JournalSet, often: None) -> None:
    """A journal's write-ahead log is in its file soon."""
    before = journals.own().path.stat().st_size
    journals.own().append([NewEvent(TOPIC, b"x" * 100_000, 1e12)])

    async def test() -> None:
        async with cared_for(journals):
            await wait_until_async(lambda: journals.own().path.stat().st_size > before + 100_000)

    asyncio.run(test())


def test_losses_and_groups_that_are_gone(tmp_path: Path, often: None, caplog: pytest.LogCaptureFixture) -> None:
    """What a cap took from a group is told, and a group that was not seen for its time is forgotten with a warning."""
    journals = made(tmp_path, max_events=1)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            coordinates.idle = [SHOP._replace(last_seen=-1e9), SHOP._replace(name="seen", last_seen=1e12)]
            for _ in range(3):
                store(journals.own(), at=1e12)
            await wait_until_async(lambda: sum(count for _, count in coordinates.losses) == 2)
            await wait_until_async(lambda: coordinates.forgotten == ["shop"])

    asyncio.run(test())
    assert "The group shop of auth was not seen for 30 days and is forgotten" in caplog.text
    journals.close()


@pytest.mark.parametrize("error", [JournalError("the disk is full"), RuntimeError("a mistake")])
def test_what_fails_is_tried_again(
    journals: JournalSet,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Whatever goes wrong is logged, and does not end the looking after."""
    journals.own()
    store(journals.own())
    trim: Callable[..., Any] = Retention.trim
    failed: list[int] = []

    def fails_once(retention: Retention, **options: Any) -> Any:
        if not failed:
            failed.append(1)
            raise error
        return trim(retention, **options)

    monkeypatch.setattr(Retention, "trim", fails_once)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            coordinates.handled = journals.own().head
            await wait_until_async(lambda: journals.own().size == (0, 0))

    asyncio.run(test())
    assert str(error) in caplog.text
