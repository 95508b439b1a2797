"""Whose turn it is to fire the events of a database outbox, and how long the next process waits."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.journal_sets import SHOP, TOPIC, made, store
from lightbus.events.publishing import relay_turns as module
from lightbus.events.publishing.journal_set import JournalSet
from lightbus.events.publishing.relay_turns import RelayTurns
from lightbus.exceptions import JournalError


class Time:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


def turns_of(journals: JournalSet, overtaken: Counter[str], place: str = "here") -> RelayTurns:
    """Return the turns of a process that keeps the events of all APIs in its journal."""
    return RelayTurns(journals, "of the test", place, overtaken, lambda api: True)


class Worker:
    """A process that fires the events of an outbox."""

    def __init__(self, path: Path) -> None:
        self.journals: JournalSet = made(path)
        self.own = self.journals.own()
        self.own.groups.save(SHOP)
        self.overtaken: Counter[str] = Counter()
        self.turns = turns_of(self.journals, self.overtaken)

    def is_its_turn(self, first: int = 1) -> bool:
        return self.turns.is_ours("auth", first)

    def handle(self, sequence: int) -> None:
        """Let the group have handled its events up to here."""
        self.own.change(*self.own.cursors.changes(cursors=[("shop", TOPIC, sequence)]))


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    """Return two workers of one service, the first of which has fired an event that is not handled."""
    one, other = Worker(tmp_path), Worker(tmp_path)
    assert one.is_its_turn()
    store(one.own)
    yield one, other
    one.journals.close()
    other.journals.close()


def test_the_next_process_waits_until_the_events_are_handled(workers: tuple[Worker, Worker], time: Time) -> None:
    """Meanwhile the earlier one may go on; it is the next to wait afterwards."""
    one, other = workers
    assert (other.is_its_turn(), one.is_its_turn()) == (False, True)
    one.handle(one.own.head)
    assert other.is_its_turn()
    store(other.own)
    assert (one.is_its_turn(), other.is_its_turn()) == (False, True)
    assert other.overtaken == one.overtaken == {}


@pytest.mark.usefixtures("time")
def test_what_a_killed_process_has_left_is_removed(workers: tuple[Worker, Worker]) -> None:
    """It was killed while it wrote whose turn it is; the draft of another outbox stays."""
    one, other = workers
    [file] = other.journals.path.glob("relayed-*")
    ours, foreign = (file.with_name(f".{name}.0a1b2c3d") for name in (file.name, "relayed-0000000000000000"))
    for draft in (ours, foreign):
        draft.write_text("half")
    one.handle(one.own.head)
    assert other.is_its_turn()
    assert (ours.exists(), foreign.exists()) == (False, True)


@pytest.mark.usefixtures("time")
def test_a_process_that_continues_the_journal_does_not_wait(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """Its events follow the earlier ones there."""
    one, other = workers
    one.journals.close()
    again = Worker(tmp_path)
    assert again.own.id == one.own.id
    assert (other.is_its_turn(), again.is_its_turn()) == (False, True)
    again.journals.close()


def test_the_wait_ends_when_nothing_moves(
    workers: tuple[Worker, Worker], time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """A group that is away delays the others for a while only; each event that a group handles extends the wait."""
    one, other = workers
    store(one.own)
    assert not other.is_its_turn()
    time.now += module.PATIENCE - 1
    one.handle(one.own.head - 1)
    assert not other.is_its_turn()
    time.now += module.PATIENCE - 1
    assert not other.is_its_turn()
    with caplog.at_level(logging.WARNING):
        time.now += 1
        assert other.is_its_turn()
    [told] = caplog.records
    assert "not handled by shop" in told.getMessage()
    assert (other.overtaken, other.is_its_turn()) == ({"auth": 1}, True)


def test_the_wait_is_bounded(workers: tuple[Worker, Worker], time: Time) -> None:
    """Also for a group that is slow."""
    one, other = workers
    end = time.now + module.LONGEST
    while time.now < end:
        assert not other.is_its_turn()
        one.handle(store(one.own) - 1)
        time.now += module.PATIENCE / 2
    assert other.is_its_turn()


def test_no_end_of_the_wait_while_others_fire(workers: tuple[Worker, Worker], time: Time) -> None:
    """As long as the oldest event that waits is another one each time, an earlier process fires them."""
    _, other = workers
    for first in range(1, 20):
        assert not other.is_its_turn(first)
        time.now += module.PATIENCE / 2
    assert other.overtaken == {}


@pytest.mark.usefixtures("time")
def test_each_api_and_each_outbox_has_its_turns(workers: tuple[Worker, Worker]) -> None:
    """They are fired independently of each other."""
    _, other = workers
    assert other.turns.is_ours("shop", 1)
    assert turns_of(other.journals, other.overtaken, "there").is_ours("auth", 1)
    assert not other.is_its_turn()


def test_without_a_journal_nobody_waits(tmp_path: Path) -> None:
    """An event backend keeps the events of all processes in order."""
    journals = made(tmp_path)
    assert RelayTurns(journals, "of the test", "here", Counter(), lambda api: api != "auth").is_ours("auth", 1)
    assert not journals.path.exists()


@pytest.mark.usefixtures("time")
def test_a_journal_that_is_not_open_yet(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """The process waits as any other, and is waited for: its API was registered after its start, for example."""
    one, _ = workers
    journals = made(tmp_path)
    turns = turns_of(journals, Counter())
    assert not turns.is_ours("auth", 1)
    one.handle(one.own.head)
    assert turns.is_ours("auth", 1)
    journals.own().groups.save(SHOP)
    store(journals.own())
    assert not one.is_its_turn()
    journals.close()


@pytest.mark.usefixtures("time")
def test_a_journal_that_was_closed(workers: tuple[Worker, Worker]) -> None:
    """The journal that is opened next is named: it gets the events."""
    one, _ = workers
    one.own.path.unlink()
    one.own.close()
    assert one.is_its_turn()
    [file] = one.journals.path.glob("relayed-*")
    assert file.read_text() == f"auth/{one.journals.own().id}"
    assert not one.journals.own().is_closed


def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    """No event is fired: it would be stored later, and nobody would wait for it."""
    (tmp_path / "data").write_text("no directory")
    with pytest.raises(JournalError):
        turns_of(made(tmp_path), Counter()).is_ours("auth", 1)


def test_a_journal_that_cannot_be_read(workers: tuple[Worker, Worker], time: Time) -> None:
    """It may hold earlier events: it is waited for as if a group were behind. One that is gone is not."""
    one, other = workers
    one.journals.close()
    one.own.path.unlink()
    one.own.path.mkdir()
    assert not other.is_its_turn()
    time.now += module.PATIENCE
    assert other.is_its_turn()
    assert other.overtaken == {"auth": 1}


@pytest.mark.usefixtures("time")
def test_a_turn_that_cannot_be_read(workers: tuple[Worker, Worker]) -> None:
    """Nobody knows whether another process was before: no event is fired until it can be read."""
    one, other = workers
    one.handle(one.own.head)
    [file] = other.journals.path.glob("relayed-*")
    file.unlink()
    file.mkdir()
    with pytest.raises(JournalError, match="was not read"):
        other.is_its_turn()


@pytest.mark.usefixtures("time")
def test_a_turn_is_on_disk_before_it_counts(workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves neither an empty file nor the earlier one, as if the process before were still the last."""
    one, other = workers
    one.handle(one.own.head)
    [file] = other.journals.path.glob("relayed-*")
    synced: list[tuple[int, str]] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, file.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    assert other.is_its_turn()
    before, now = f"auth/{one.own.id}", f"auth/{other.own.id}"
    assert synced[-2:] == [(file.stat().st_ino, before), (file.parent.stat().st_ino, now)]


@pytest.mark.usefixtures("time")
def test_a_turn_that_cannot_be_noted(workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is fired: the next process would not know that it has to wait."""
    one, other = workers
    one.handle(one.own.head)

    def fails(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(JournalError, match="keeps the order of an outbox, was not written"):
        other.is_its_turn()
