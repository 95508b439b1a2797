"""Fired events are stored before they are published: in few commits, in order, from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.published import ME, Out, run
from lightbus.adapters.sqlite.journal import Journal, Run, Stored
from lightbus.adapters.sqlite.topic import Topic
from lightbus.core.partitions import partition_of
from lightbus.exceptions import JournalError
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Accepted, AnyMessage, Error, Fire, Record


def test_one_commit_for_a_tick() -> None:
    """Events fired within one tick of the loop are stored in one commit, and each task gets its event's place."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        messages = [EventMessage(api_name="auth", event_name="seen", kwargs={"what": n}) for n in range(100)]
        commits = commits_of(out)
        await asyncio.gather(*(out.publisher.publish_async(message, event) for message in messages))
        assert commits == [100]
        assert [message.native_id for message in messages] == [out.native_id(n) for n in range(1, 101)]
        assert sum(map(len, out.records.values())) == 100

    run(test)


def commits_of(out: Out) -> list[int]:
    """Return a list that records, from now on, how many events each commit stores."""
    commits: list[int] = []
    journal: Any = out.journals.journal
    one, several = journal.append_one, journal._append_runs

    def append_one(topic: Topic, record: bytes, at: float, id: str = "", **more: bool) -> Stored:
        commits.append(1)
        journal._append_runs = several  # one of a new topic, or that was handed off, is stored by that
        try:
            stored: Stored = one(topic, record, at, id, **more)
        finally:
            journal._append_runs = append_runs
        return stored

    def append_runs(runs: Sequence[Run]) -> list[Stored]:
        commits.append(sum(len(run.records) for run in runs))
        stored: list[Stored] = several(runs)
        return stored

    journal.append_one, journal._append_runs = append_one, append_runs
    return commits


async def fire_in_turn(out: Out, count: int) -> list[str]:
    """Fire one event after another in a task, each when the previous one is stored; return their native ids."""
    event = out.apis.get("auth").get_event("seen")
    messages = [EventMessage(api_name="auth", event_name="seen", kwargs={"what": n}) for n in range(count)]
    for message in messages:
        await out.publisher.publish_async(message, event)
    return [message.native_id for message in messages]


def test_sequential_events_are_stored_at_once() -> None:
    """A task that waits for each event does not wait for others; the loop runs regularly, and order is kept."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 1)  # the journal is opened
        commits, turns = commits_of(out), 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        await asyncio.sleep(0)
        assert await fire_in_turn(out, 100) == [out.native_id(n) for n in range(2, 102)]
        other.cancel()
        assert commits == [1] * 100
        assert 5 <= turns < 100
        out.publisher.flush()
        sequences = sorted(entry[0] for entries in out.records.values() for entry in entries)
        assert sequences == list(range(1, 102))

    run(test)


async def begin_row(out: Out) -> None:
    """Let a topic be known to the journal, and a task fire more than one event."""
    await fire_of_a_key(out, 3)
    await asyncio.sleep(0)


async def fire_of_a_key(out: Out, count: int) -> list[str]:
    """Fire one event after another, all of one topic; return their native ids."""
    event = out.apis.get("auth").get_event("kept")
    messages = [EventMessage(api_name="auth", event_name="kept", kwargs={"what": n, "key": "k"}) for n in range(count)]
    for message in messages:
        await out.publisher.publish_async(message, event)
    return [message.native_id for message in messages]


def test_events_of_a_row_share_a_commit() -> None:
    """Each fire returns at once; the events are noted in a file, and are in the tables when they are published."""

    async def test(out: Out) -> None:
        await begin_row(out)
        journal: Any = out.journals.journal
        with contextlib.closing(sqlite3.connect(journal.path)) as outsider:

            def in_tables() -> int:
                return int(outsider.execute("SELECT sum(count) FROM events").fetchone()[0])

            fired = fire_of_a_key(out, 20)
            with pytest.raises(StopIteration) as ended:
                fired.send(None)
            assert ended.value.value == [out.native_id(n) for n in range(4, 24)]
            assert (in_tables(), journal.log.noted.count) == (3, 20)
            commits: list[int] = []
            store = journal._store
            journal._store = lambda runs: commits.append(journal.log.noted.count) or store(runs)
            await asyncio.sleep(0)
            assert (in_tables(), journal.log.noted.count, commits) == (23, 0, [20])
        sequences = sorted(entry[0] for entries in out.records.values() for entry in entries)
        assert sequences == list(range(1, 24))

    run(test)


def test_a_row_while_another_program_locks_the_journal() -> None:
    """Its events are kept, and then published in order; later events wait for them."""

    async def test(out: Out) -> None:
        await begin_row(out)
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            assert await fire_of_a_key(out, 5) == [out.native_id(n) for n in range(4, 9)]
            await wait_until_async(lambda: out.publisher.batcher.is_storing_late)
            late = asyncio.create_task(fire_of_a_key(out, 3))
            await asyncio.sleep(0)
            out.publisher.flush()
            assert (sum(map(len, out.records.values())), late.done()) == (3, False)
            outsider.execute("ROLLBACK")
        assert await late == [out.native_id(n) for n in range(9, 12)]
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 11)
        for entries in out.records.values():
            assert [entry[1] for entry in entries] == [0, *(entry[0] for entry in entries[:-1])]

    run(test)


def test_a_row_that_cannot_be_moved_into_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays noted, and nothing is stored before it; it is retried without another event."""
    monkeypatch.setattr("lightbus.events.publishing.batcher.SETTLE_AGAIN", 0.01)

    async def test(out: Out) -> None:
        await begin_row(out)
        journal: Any = out.journals.journal
        store = journal._store

        def fail(runs: Sequence[Run]) -> list[Stored]:
            raise OSError("the disk is full")

        journal._store = fail
        assert await fire_of_a_key(out, 5) == [out.native_id(n) for n in range(4, 9)]
        await wait_until_async(lambda: out.publisher.counts["journal_errors"] >= 2)
        with pytest.raises(JournalError, match="the disk is full"):
            await fire_of_a_key(out, 1)
        assert sum(map(len, out.records.values())) == 3
        journal._store = store
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 8)
        assert (journal.size[0], await fire_of_a_key(out, 1)) == (8, [out.native_id(9)])

    run(test)


def test_a_row_is_retried_by_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events are refused in the meantime; and not for a closed journal."""
    monkeypatch.setattr("lightbus.events.publishing.batcher.SETTLE_AGAIN", 1000.0)

    async def test(out: Out) -> None:
        await begin_row(out)
        journal: Any = out.journals.journal
        loop: Any = asyncio.get_running_loop()
        again: list[Callable[[], None]] = []
        later, store = loop.call_later, journal._store

        def call_later(delay: float, action: Any, *given: Any) -> Any:
            if delay == 1000.0:
                again.append(action)
            return later(delay, action, *given)

        def fail(runs: Sequence[Run]) -> list[Stored]:
            raise OSError("the disk is full")

        monkeypatch.setattr(loop, "call_later", call_later)
        journal._store = fail
        await fire_of_a_key(out, 5)
        await wait_until_async(lambda: again)
        for _ in range(10):
            with pytest.raises(JournalError, match="the disk is full"):
                await fire_of_a_key(out, 1)
        assert len(again) == 1
        again.pop()()
        assert (len(again), sum(map(len, out.records.values()))) == (1, 3)
        journal._store = store
        again.pop()()
        assert (again, sum(map(len, out.records.values()))) == ([], 8)
        journal._store = fail
        await fire_of_a_key(out, 3)
        await wait_until_async(lambda: again)
        journal.close()
        again.pop()()
        assert (again, sum(map(len, out.records.values()))) == ([], 8)

    run(test)


def test_parallel_tasks_share_commits_again() -> None:
    """As soon as other tasks fire, their events are stored together; only the first task continues its row."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 20)
        commits = commits_of(out)
        await asyncio.gather(*(fire_in_turn(out, 10) for _ in range(50)))
        assert commits == [1] * 10 + [49] * 10

    run(test)


def test_hand_offs_are_stored_at_once_or_together() -> None:
    """A single one is answered before the loop continues; many in a tick share a commit, and each has its answer."""

    async def test(out: Out) -> None:
        await out.hand_off(id="id-0")
        commits = commits_of(out)
        answers: list[AnyMessage] = []
        record = envelope.encode_record(Record("id-1", 1, 0.0, {"what": "it"}))
        out.publisher.hand_off(Fire(ME, "auth", "seen", 5.0, None, record, "journal"), answers.append)
        assert answers == [Accepted(out.native_id(2), ME)]
        await asyncio.gather(*(out.hand_off(id=f"id-{n}") for n in range(2, 12)))
        assert (commits, out.journals.journal.size[0]) == ([1, 1, 9], 12)

    run(test)


def test_a_commit_that_waits_for_the_disk_is_shared(tmp_path: Path) -> None:
    """With `durability: power` no event is stored alone that could share a commit."""

    async def test(out: Out) -> None:
        out.journals.journal.close()
        out.journals.journal = Journal(tmp_path / "00000000000000bb.sqlite", durability="power")
        await fire_in_turn(out, 1)
        commits = commits_of(out)
        await asyncio.gather(fire_in_turn(out, 2), fire_in_turn(out, 2))
        assert commits == [2, 2]

    run(test)


def test_an_event_that_cannot_be_stored_at_once() -> None:
    """The caller gets the error; it is counted, nothing is published, and the next event is stored."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 1)
        append = out.journals.journal.append_one

        def fail(*event: Any, more: bool = False) -> Any:
            raise JournalError("the disk is full")

        out.journals.journal.append_one = fail  # type: ignore[method-assign]
        with pytest.raises(JournalError, match="the disk is full"):
            await fire_in_turn(out, 1)
        assert await out.hand_off() == Error("journal_error", "the disk is full", False, {"elsewhere": True})
        assert out.publisher.counts["journal_errors"] == 2
        out.journals.journal.append_one = append  # type: ignore[method-assign]
        assert await fire_in_turn(out, 1) == [out.native_id(2)]
        out.publisher.flush()
        assert sum(map(len, out.records.values())) == 2

    run(test)


def locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it cannot be had")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@pytest.mark.parametrize(
    "cause", [OSError("a full disk"), FileNotFoundError("no directory"), locked()], ids=["full", "not there", "locked"]
)
def test_unstored_events_are_not_published(cause: Exception) -> None:
    """If the journal cannot be opened, callers and hand-offs get the error; afterwards events are stored again."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        message = EventMessage(api_name="auth", event_name="seen", kwargs={"what": 1})
        out.journals.problem = JournalError("it cannot be had")
        out.journals.problem.__cause__ = cause
        with pytest.raises(JournalError, match="it cannot be had"):
            await asyncio.wait_for(out.publisher.publish_async(message, event), 60)
        with pytest.raises(JournalError, match="it cannot be had"):
            out.publisher.publish(message, event)
        error = await asyncio.wait_for(out.hand_off(), 60)
        assert error == Error("journal_error", "it cannot be had", False, {"elsewhere": True})
        assert (out.frames, out.publisher.waiting) == ([], 0)
        out.journals.problem = None
        await asyncio.wait_for(out.publisher.publish_async(message, event), 60)
        assert message.native_id == out.native_id(1)

    run(test)


def test_each_topic_has_its_own_predecessors() -> None:
    """A subscriber to one partition sees no gap if the numbers between went to another partition or event."""

    async def test(out: Out) -> None:
        for key in ("one", "two", "one", "two"):
            out.fire(1, key=key)
        out.fire(1, key=None)
        out.fire(1, key="one")
        out.publisher.flush()
        one, two = (envelope.event_topic("auth", "kept", partition_of(key, PARTITIONS)) for key in ("one", "two"))
        assert [entry[:2] for entry in out.records[one]] == [[1, 0], [3, 1], [6, 3]]
        assert [entry[:2] for entry in out.records[two]] == [[2, 0], [4, 2]]

    run(test)


def test_threads_append_at_the_same_time() -> None:
    """From any threads: numbers are used once, and each partition is published in order without a gap."""
    count, threads = 2000, 4

    async def test(out: Out) -> None:
        given_: list[list[int]] = [[] for _ in range(threads)]

        def fire(number: int) -> None:
            for turn in range(count):
                given_[number] += out.fire(1, key=None if turn % 3 else f"key-{turn}")

        workers = [threading.Thread(target=fire, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        await wait_until_async(lambda: out.publisher.counts["published"] == count * threads, 30.0)
        for worker in workers:
            worker.join()
        assert sorted(chain(*given_)) == list(range(1, count * threads + 1))
        assert all(sequences == sorted(sequences) for sequences in given_)
        for entries in out.records.values():
            assert [previous for _, previous, _ in entries] == [0, *(sequence for sequence, _, _ in entries)][:-1]
            assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)
        assert sum(map(len, out.records.values())) == count * threads

    run(test)


def test_events_wait_off_the_loop_for_a_locked_journal() -> None:
    """Each is accepted and published in order once the other program is done, and the loop is free."""

    async def test(out: Out) -> None:
        loop, event = asyncio.get_running_loop(), out.apis.get("auth").get_event("kept")

        def message(what: str) -> EventMessage:
            return EventMessage(api_name="auth", event_name="kept", kwargs={"what": what, "key": "k"})

        out.fire(1)
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            doors = [
                loop.create_task(out.publisher.publish_async(message("async"), event)),
                loop.run_in_executor(None, out.publisher.publish, message("sync"), event),
                loop.run_in_executor(None, lambda: asyncio.run(out.publisher.publish_async(message("other"), event))),
                loop.create_task(out.hand_off("kept", kwargs={"what": "handed", "key": "k"})),
            ]
            await wait_until_async(lambda: out.publisher.batcher.is_storing_late)
            late = loop.create_task(out.publisher.publish_async(message("late"), event))
            done, _ = await asyncio.wait([*doors, late], timeout=0.1)
            assert done == set()
            outsider.execute("ROLLBACK")
        await asyncio.gather(*doors, late)
        await out.hand_off("kept", id="id-2", kwargs={"what": "afterwards", "key": "k"})
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 7)
        [entries] = out.records.values()
        assert [entry[0] for entry in entries] == list(range(1, 8))
        assert [entry[1] for entry in entries] == list(range(7))

    run(test)


def test_a_cancelled_wait_affects_no_other() -> None:
    """If the task of a waiting event is cancelled, on any loop, the event is kept, and the others are notified."""

    async def test(out: Out) -> None:
        loop, event = asyncio.get_running_loop(), out.apis.get("auth").get_event("kept")

        def message(what: str) -> EventMessage:
            return EventMessage(api_name="auth", event_name="kept", kwargs={"what": what, "key": "k"})

        async def given_up() -> None:
            firing = asyncio.create_task(out.publisher.publish_async(message("given up"), event))
            await wait_until_async(lambda: len(out.publisher.batcher._batch.waiters) == 1)
            firing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await firing

        out.fire(1)
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            first = loop.create_task(out.publisher.publish_async(message("first"), event))
            await wait_until_async(lambda: out.publisher.batcher.is_storing_late)
            await asyncio.to_thread(lambda: asyncio.run(given_up()))
            rest = [
                loop.create_task(out.publisher.publish_async(message("here"), event)),
                loop.run_in_executor(None, out.publisher.publish, message("in a thread"), event),
            ]
            await asyncio.sleep(0)
            outsider.execute("ROLLBACK")
        async with asyncio.timeout(60):
            await asyncio.gather(first, *rest)
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 5)

    run(test)


def test_a_journal_locked_for_ever_is_an_error() -> None:
    """The error names the cause; later events are stored."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("kept")
        message = EventMessage(api_name="auth", event_name="kept", kwargs={"what": "x", "key": "k"})
        retry_while_locked = out.journals.journal.retry_while_locked
        out.journals.journal.retry_while_locked = lambda action: retry_while_locked(action, 0.05)  # type: ignore
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="It is locked by another program"):
                await out.publisher.publish_async(message, event)
            with pytest.raises(JournalError, match="It is locked by another program"):
                await asyncio.to_thread(out.publisher.publish, message, event)
        await out.publisher.publish_async(message, event)
        assert out.publisher.counts["stored"] == 1

    run(test)
