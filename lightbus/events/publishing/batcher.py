"""Stores fired events, one commit per iteration of the loop ("tick"), and publishes them in the order of sequences."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from ...adapters.sqlite.journal import Journal, Run, Stored
from ...adapters.sqlite.journal_errors import is_locked, is_removed
from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError
from ...message import EventMessage
from ...recurring import RecurringLog
from ..event_record import RecordRow
from .broadcast import Broadcast
from .in_row import InRow
from .outcome_collector import OutcomeCollector
from .partition_turns import PartitionTurns
from .runs import queue_runs
from .tick_batch import TickBatch, TickWaiter

__all__ = ["Batcher", "OwnJournal"]

logger = logging.getLogger("lightbus.publishing")


SETTLE_AGAIN = 1.0
"""Seconds after which moving noted events into the journal's tables is tried again."""


class OwnJournal(Protocol):
    """The source of the journal that this process appends to."""

    def own(self) -> Journal:
        """Return the journal of this process, opened at first use. Raises JournalError."""


class Batcher:
    """
    Stores events, and queues them for publishing.

    Thread-safe, unless noted otherwise: the lock makes storing and queueing one step, so that the sequences of each
    topic are sent in order. Made on the node's loop; events are only sent there.

    Args:
        journals: the source of this process's journal.
        broadcast: publishes the events.
        counts: the publisher's counters: stored, journal_errors.

    """

    def __init__(self, journals: OwnJournal, broadcast: Broadcast, counts: Counter[str]) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._journals = journals
        self._broadcast = broadcast
        self._counts = counts
        self._failures = RecurringLog(logger)
        self._turns = PartitionTurns()
        self._lock = threading.Lock()
        self._pending: dict[bytes, list[list[Any]]] = {}
        self._pending_live: dict[bytes, list[list[Any]]] = {}
        self._count = 0
        self._flush_is_due = False
        self._batch = TickBatch()
        self._stores_at_once = True
        """Whether the latest ticks had single events: then nothing is gained by waiting for more."""
        self._row = InRow()
        self._live_numbers: dict[bytes, int] = {}
        self._journal: Journal | None = None
        self._late: TickBatch | None = None
        """The batch that a thread stores because another program has locked the journal. Later events wait."""
        self._settles_again = False
        """Whether another attempt to move the noted events into the tables is scheduled."""

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self._count

    @property
    def journal_id(self) -> str:
        """The name of our own journal; empty before it is opened."""
        return "" if self._journal is None else self._journal.id

    @property
    def is_storing_late(self) -> bool:
        """Whether events wait because another program has locked the journal."""
        return self._late is not None

    def is_on_loop(self) -> bool:
        """Return whether the caller runs on the node's loop."""
        # A thread runs one loop at a time. Asking asyncio for the running loop would be a system call (its fork check).
        return get_ident() == self._thread and self.loop.is_running()

    # Storing

    def append(
        self,
        names: tuple[str, str],
        record: bytes,
        key: str | None,
        at: float,
        id: str,
        source: object,
        waiter: TickWaiter,
    ) -> tuple[Topic, Stored | None]:
        """
        Store an event on the node's loop: in one commit with the others of this tick, or at once.

        Events of a task that awaits each before it fires the next are stored at once, each in its own commit: no other
        event would share the commit that they would wait for. Not if a commit waits for the disk (`durability: power`).
        Raises JournalError if it is stored at once and that fails.

        Args:
            names: of the API and the event.
            record, key, at, id: of the event.
            source: the task, or the hand-off, that fires it.
            waiter: informed of the event's place, unless it is stored at once.

        Returns:
            The topic of the event, and its place if it was stored at once.

        """
        with self._lock:
            topic, name = self._turns.topic(names, key, self._count)
            if self._stores_at_once and self._may_store_at_once(source):
                stored = self._store_at_once(topic, name, record, at, id)
                if stored is not None:
                    return name, stored
            self._batch.add(topic, name, record, at, id, waiter)
            self._count += 1
            if not self._flush_is_due:
                self._flush_is_due = True
                self.loop.call_soon(self.flush)
        return name, None

    def keep(self, message: EventMessage, record: bytes, key: str | None) -> asyncio.Future[Any] | None:
        """Store an event of this process, and set its place in its message; return a future to await, or None."""
        with self._lock:
            topic, name = self._turns.topic((message.api_name, message.event_name), key, self._count)
            at = message.published_at
            if self._stores_at_once and self._may_store_at_once(asyncio.current_task(self.loop)):
                stored = self._store_at_once(topic, name, record, at, "")
                if stored is not None:
                    message._native_id = self.journal_id, stored[0]
                    return None
            kept: asyncio.Future[Any] = asyncio.Future(loop=self.loop)
            self._batch.add(topic, name, record, at, "", (message, kept))
            self._count += 1
            if not self._flush_is_due:
                self._flush_is_due = True
                self.loop.call_soon(self.flush)
        return kept

    def append_elsewhere(
        self, names: tuple[str, str], record: bytes, key: str | None, at: float
    ) -> tuple[Journal, Topic, Stored | Future[Stored]]:
        """Store an event, from any thread or loop: at once, or later if the journal is locked."""
        with self._lock:
            journal = self._own_journal()
            topic, name = self._turns.topic(names, key, self._count)
            stored: Stored | Future[Stored] | None = self._store_now(journal, topic, name, record, at)
            if stored is None:  # queued after the events that wait already
                stored = Future()
                self._batch.add(topic, name, record, at, "", partial(_settle, stored))
                self._flush_soon()
        return journal, name, stored

    def append_live(self, names: tuple[str, str], record: bytes, key: str | None) -> int:
        """Number and queue an event of best effort, which is not stored. Return how many events are queued."""
        with self._lock:
            count = self._count
            topic, _ = self._turns.topic(names, key, count)
            numbers = self._live_numbers  # from here on `_queue_live`, inlined for speed
            previous = numbers.get(topic, 0)
            sequence = numbers[topic] = previous + 1
            pending = self._pending_live.get(topic)
            if pending is None:
                self._pending_live[topic] = [[sequence, previous, record]]
            else:
                pending.append([sequence, previous, record])
            self._count = count = count + 1
            if not self._flush_is_due:
                self._flush_is_due = True
                self._call_flush()
        return count

    def append_all(self, names: tuple[str, str], rows: Sequence[RecordRow]) -> tuple[list[Topic], Future[list[Stored]]]:
        """
        Store events in one commit, all or none, and queue them for publishing.

        Return the topic of each, and the future of their places, which is usually done already, unless another program
        has locked the journal. Raises JournalError.
        """
        together: OutcomeCollector[Stored] = OutcomeCollector(len(rows))
        stored: list[Stored] = []

        def waiter(topic: Topic, outcome: Stored | JournalError) -> None:
            together(outcome)

        with self._lock:
            journal = self._own_journal()
            topics = self._turns.spread(names, [key for _, key, _, _ in rows], self._count)
            waits = self._late is not None or bool(self._batch.runs)  # to be stored after the waiting events
            batch = self._batch if waits else TickBatch()
            for (topic, name), (record, _, at, id) in zip(topics, rows, strict=True):
                batch.add(topic, name, record, at, id, waiter)
            if not waits:
                try:
                    stored = journal.append_runs(batch.runs)
                    self._stored(batch, stored)
                except JournalError as error:
                    if not (is_locked(error) or is_removed(error)):
                        self._note_failed(error)
                        raise
                    self._batch = batch
            self._count += len(rows) - 1
            self._flush_soon()
        if stored:
            batch.resolve(journal.id, stored)
        return [name for _, name in topics], together.future

    def append_runs(self, names: tuple[str, str], records: list[bytes], at: float) -> list[tuple[Topic, int]] | None:
        """
        Store events without keys in one commit, all or none, and queue them; return the last place of each topic.

        Return None, and store nothing, if they have to wait for other events or another program: then use `append_all`.
        Raises JournalError.
        """
        with self._lock:
            if self._late is not None or self._batch.runs:
                return None
            journal = self._own_journal()
            runs = self._turns.runs(names, records, self._count)
            try:
                firsts = journal.append_runs([Run(name, at, those) for _, name, those in runs])
            except JournalError as error:
                if is_locked(error) or is_removed(error):
                    return None
                self._note_failed(error)
                raise
            self._counts["stored"] += len(records)
            self._count += len(records) - 1
            self._flush_soon()
            return queue_runs(self._pending, runs, firsts)

    def append_all_live(self, names: tuple[str, str], rows: Sequence[RecordRow]) -> None:
        """Number and queue events of best effort."""
        with self._lock:
            topics = self._turns.spread(names, [key for _, key, _, _ in rows], self._count)
            for (topic, _), (record, *_) in zip(topics, rows, strict=True):
                self._queue_live(topic, record)
            self._count += len(rows) - 1
            self._flush_soon()

    def _queue_live(self, topic: bytes, record: bytes) -> None:
        """Number and queue an event of best effort. Call it with the lock held."""
        numbers, pending = self._live_numbers, self._pending_live
        previous = numbers.get(topic, 0)
        numbers[topic] = previous + 1
        if topic in pending:
            pending[topic].append([previous + 1, previous, record])
        else:
            pending[topic] = [[previous + 1, previous, record]]

    # Publishing

    def flush(self) -> int:
        """
        Store and publish the queued events; return the newest sequence of our journal. Only on the node's loop.

        The events of one topic share messages.
        """
        with self._lock:
            self._flush_is_due = False
            batch, firsts, error = self._store_batch()
            self._row.end_tick()
            pending: dict[bytes, list[list[Any]]] = {}
            journal = self._journal
            # Events that are not in the tables yet are held back: consumers that miss one would read the tables.
            if journal is None or not journal.log.noted.count or not journal.has_noted:
                pending, self._pending = self._pending, {}
            live, self._pending_live = self._pending_live, {}
            self._turns.end_tick(self._count)
            self._count = 0
        if pending:
            self._broadcast.send_all(pending, self.journal_id)
        if live:
            self._broadcast.send_all(live, "")
        if error is not None:
            batch.fail(error)
        elif firsts:
            batch.resolve(self.journal_id, firsts)
        return 0 if journal is None else journal.head

    # Inside

    def _own_journal(self) -> Journal:
        if self._journal is None or self._journal.is_closed:
            self._journal = self._journals.own()
            self._pending = {}  # those of the previous journal are stored; the process that opens it serves them
        return self._journal

    def _may_store_at_once(self, source: object) -> bool:
        """Return whether an event need not wait for others of this tick. Call it with the lock held."""
        if self._batch.runs or self._late is not None:
            return False
        journal, is_first = self._journal, not self._flush_is_due
        if not self._row.continues_row(source, 0 if journal is None else journal.log.noted.count, is_first=is_first):
            return False
        return journal is not None and journal.is_quick

    def _store_at_once(self, topic: bytes, name: Topic, record: bytes, at: float, id: str) -> Stored | None:
        """
        Store one event, and queue it for publishing. With the lock held, on the node's loop. Raises JournalError.

        Return None if another program has locked the journal: then the event must be added to the batch.
        """
        try:
            stored = self._own_journal().append_one(name, record, at, id, more=self._row.expects_more)
        except JournalError as error:
            if is_locked(error) or is_removed(error):
                return None
            self._note_failed(error)
            raise
        self._counts["stored"] += 1
        sequence, previous, is_new = stored
        if is_new:
            entry = [sequence, previous, record]
            if topic in self._pending:
                self._pending[topic].append(entry)
            else:
                self._pending[topic] = [entry]
            self._count += 1
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self.flush)
        return stored

    def _store_now(self, journal: Journal, topic: bytes, name: Topic, record: bytes, at: float) -> Stored | None:
        """Store an event; return None if another program has locked the journal. With the lock held, in any thread."""
        if self._late is not None and not self.is_on_loop():
            return None
        try:
            stored = journal.append_one(name, record, at)
        except JournalError as error:
            if self.is_on_loop() or not (is_locked(error) or is_removed(error)):
                raise
            return None
        self._counts["stored"] += 1
        self._pending.setdefault(topic, []).append([stored[0], stored[1], record])
        self._flush_soon()
        return stored

    def _store_batch(self) -> tuple[TickBatch, Sequence[Stored], JournalError | None]:
        """Store and queue the events of this tick; return the batch, and the places of its runs or the error."""
        batch = self._batch
        if self._late is not None:  # the batch keeps waiting
            return batch, (), None
        self._stores_at_once = batch.is_small
        if not batch.runs and (self._journal is None or not self._journal.log.noted.count):
            return batch, (), None
        self._batch = TickBatch()
        try:
            firsts = self._own_journal().append_runs(batch.runs)
        except JournalError as error:
            journal = self._journal
            if journal is not None and (is_locked(error) or is_removed(error)):  # not if it never opened
                self._store_late(batch, journal)
                return batch, (), None
            self._note_failed(error)
            if journal is not None and journal.has_noted and not self._settles_again:
                self._settles_again = True  # their callers were told that they are stored
                self.loop.call_later(SETTLE_AGAIN, partial(_settle_again, self, journal))
            return batch, (), error
        self._stored(batch, firsts)
        return batch, firsts, None

    def _store_late(self, batch: TickBatch, journal: Journal) -> None:
        """Store a batch in a thread, once the journal is no longer locked. Call it with the lock held."""
        self._late = batch
        append = partial(journal.retry_while_locked, partial(journal.append_runs, batch.runs))
        logger.info("The journal %s is locked by another program or was removed; events wait for it", journal.path)
        self.loop.run_in_executor(None, append).add_done_callback(partial(self._stored_late, batch))

    def _stored_late(self, batch: TickBatch, done: asyncio.Future[list[Stored]]) -> None:
        if done.cancelled():
            batch.fail(JournalError("The bus stops."))
            return
        failed, error = done.exception(), None
        with self._lock:
            self._late = None
            if failed is None:
                self._stored(batch, done.result())
            else:
                error = failed if isinstance(failed, JournalError) else JournalError(f"It was not stored: {failed}")
                self._note_failed(error)
        self.flush()
        if error is None:
            batch.resolve(self.journal_id, done.result())
        else:
            batch.fail(error)

    def _note_failed(self, error: JournalError) -> None:
        self._counts["journal_errors"] += 1
        self._failures.log("journal", logging.ERROR, "Events were not stored: %s", error)

    def _stored(self, batch: TickBatch, firsts: Sequence[Stored]) -> None:
        """Queue the events of a stored batch for publishing. Call it with the lock held."""
        runs = [(topic, run.topic, run.records) for topic, run in zip(batch.topics, batch.runs, strict=True)]
        queue_runs(self._pending, runs, firsts)
        self._counts["stored"] += sum([len(records) for _, _, records in runs])

    def _flush_soon(self) -> None:
        self._count += 1
        if not self._flush_is_due:
            self._flush_is_due = True
            self._call_flush()

    def _call_flush(self) -> None:
        """Schedule `flush` at the end of this iteration of the loop. Thread-safe."""
        if get_ident() == self._thread:  # no thread must be woken, which would take two system calls
            self.loop.call_soon(self.flush)
        else:
            self.loop.call_soon_threadsafe(self.flush)


def _settle(future: Future[Stored], topic: Topic, outcome: Stored | JournalError) -> None:
    """Set the outcome of a future, unless it is cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, JournalError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _settle_again(batcher: Batcher, journal: Journal) -> None:
    batcher._settles_again = False
    if not journal.is_closed:  # else the process that opens it next does it
        batcher.flush()
