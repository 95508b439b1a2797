"""Maintenance of journals: adopted, trimmed, written back, given back; failures are retried."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.journal_sets import SHOP, TOPIC, journals, leave_one, made, store
from helpers.waiting import LEAST
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.retention import Retention
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.publishing import journal_maintenance as module
from lightbus.events.publishing.journal_maintenance import JournalMaintenance
from lightbus.events.publishing.journal_set import JournalSet
from lightbus.exceptions import JournalError

__all__ = ["journals"]


class Coordinates:
    """A fake coordinator with the events of groups."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.forgotten: list[str] = []
        self.losses: list[tuple[str, int]] = []
        self.handled = 0
        self.idle: list[KnownGroup] = []
        self.unserved: set[str] = set()
        self.error: JournalError | None = None

    def journal_added(self, journal: Journal) -> None:
        self.added.append(journal.id)

    def journal_removed(self, journal: Journal) -> None:
        self.removed.append(journal.id)

    def serves(self, journal: Journal) -> bool:
        return journal.id not in self.unserved

    def cursors_of(self, journal: Journal, topic: Topic) -> dict[str, int]:
        return {"shop": self.handled} if self.serves(journal) else {}

    def expired(self, now: float, group_expiry: float) -> list[KnownGroup]:
        idle = self.idle
        if self.error is None:
            self.idle = []
        return [info for info in idle if now - info.last_seen > group_expiry]

    def forget(self, api: str, name: str) -> bool:
        if self.error is not None:
            raise self.error
        self.forgotten.append(name)
        return True

    def lost(self, group: str, api: str, event: str, count: int) -> None:
        self.losses.append((group, count))


@contextlib.asynccontextmanager
async def cared_for(journals: JournalSet) -> AsyncIterator[Coordinates]:
    """Run the maintenance of a set of journals."""
    coordinates = Coordinates()
    with ThreadPoolExecutor(1) as threads:
        care = JournalMaintenance(journals, coordinates, journals._config, threads)
        try:
            yield coordinates
        finally:
            await care.stop()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the maintenance all the time."""
    for name in ("ADOPT_EVERY", "CHECKPOINT_EVERY", "TRIM_EVERY"):
        monkeypatch.setattr(module, name, 0.01)


def test_journals_are_adopted_and_dropped_when_drained(journals: JournalSet, tmp_path: Path, often: None) -> None:
    """The journal of an ended process is served until its events are old and handled, and is then removed."""
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


def test_events_of_a_journal_that_is_not_served_yet_stay(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its groups are not known: it is neither trimmed nor given back, although nobody seems to wait for its events."""
    monkeypatch.setattr(module, "MAX_ADOPTED", 0)
    own = journals.own()
    store(own)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            coordinates.handled = own.head
            name = leave_one(tmp_path)
            coordinates.unserved.add(name)
            await wait_until_async(lambda: coordinates.added == [name] and own.size == (0, 0))
            coordinates.handled = store(own)
            await wait_until_async(lambda: own.size == (0, 0))  # after the other one's turn
            adopted = journals.get(name)
            assert adopted is not None
            assert (adopted.size[0], coordinates.removed) == (1, [])

    asyncio.run(test())


async def nothing_to_trim(care: JournalMaintenance) -> None:
    """Delete nothing, as if all events were new."""


def test_many_adopted_journals_are_given_back(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only some fully handled journals are kept open; a process that starts continues one of the others."""
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


def test_unhandled_journals_are_kept_open(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of them: journals with unhandled events or a dead letter."""
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


def test_events_are_deleted_although_a_group_cannot_be_removed(journals: JournalSet, often: None) -> None:
    """The removal of a group without members is tried again; no warning says that it was removed."""
    store(journals.own())

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            coordinates.handled = journals.own().head
            coordinates.error, coordinates.idle = JournalError("it is damaged"), [SHOP._replace(last_seen=-1e9)]
            await wait_until_async(lambda: journals.own().size == (0, 0))
            assert coordinates.forgotten == []

    asyncio.run(test())


def test_a_failure_during_the_stop_is_not_reported_as_unseen(
    journals: JournalSet, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a thread that the stop waits for says nothing to anybody (asyncio's reports fail a test)."""
    begun, may_fail = threading.Event(), threading.Event()

    def fails_late(retention: Retention, **options: Any) -> Any:
        begun.set()
        may_fail.wait(LEAST)
        raise JournalError("it is damaged")

    monkeypatch.setattr(Retention, "trim", fails_late)
    store(journals.own())

    async def test() -> None:
        async with cared_for(journals):
            await wait_until_async(begun.is_set)
            asyncio.get_running_loop().call_soon(may_fail.set)

    asyncio.run(test())


def test_the_log_is_written_back(journals: JournalSet, often: None) -> None:
    """The write-ahead log of a journal is soon in its file."""
    before = journals.own().path.stat().st_size
    journals.own().append([NewEvent(TOPIC, b"x" * 100_000, 1e12)])

    async def test() -> None:
        async with cared_for(journals):
            await wait_until_async(lambda: journals.own().path.stat().st_size > before + 100_000)

    asyncio.run(test())


def test_losses_and_expired_groups(tmp_path: Path, often: None, caplog: pytest.LogCaptureFixture) -> None:
    """Events deleted by a limit are logged; a group without members for too long is removed, with a warning."""
    journals = made(tmp_path, max_events=1)

    async def test() -> None:
        async with cared_for(journals) as coordinates:
            coordinates.idle = [SHOP._replace(last_seen=-1e9), SHOP._replace(name="seen", last_seen=1e12)]
            for _ in range(3):
                store(journals.own(), at=1e12)
            await wait_until_async(lambda: sum(count for _, count in coordinates.losses) == 2)
            await wait_until_async(lambda: coordinates.forgotten == ["shop"])

    asyncio.run(test())
    assert "The group shop of auth had no member for 30 days and is removed" in caplog.text
    journals.close()


@pytest.mark.parametrize("what", ["trim", "checkpoint"])
def test_a_journal_that_fails_does_not_keep_the_others(
    journals: JournalSet, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The file of one is damaged: the others are trimmed, and written back, as before."""
    done: set[str] = set()

    def fail_once(journal: Journal) -> None:
        if journal is journals.own():
            raise JournalError("it is damaged")
        done.add(journal.id)

    def trim(retention: Retention, **given: Any) -> list[Any]:
        fail_once(retention._file)  # type: ignore[arg-type]
        return []

    if what == "trim":
        monkeypatch.setattr(Retention, "trim", trim)
    else:
        monkeypatch.setattr(JournalMaintenance, "_trim", nothing_to_trim)
        monkeypatch.setattr(Journal, "checkpoint", fail_once)
    store(journals.own())

    async def test() -> None:
        name = leave_one(tmp_path)
        async with cared_for(journals):
            await wait_until_async(lambda: done == {name})

    asyncio.run(test())


@pytest.mark.parametrize("error", [JournalError("the disk is full"), RuntimeError("a mistake")])
def test_failures_are_retried(
    journals: JournalSet,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Each failure is logged, and does not end the maintenance."""
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
