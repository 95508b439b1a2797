"""Maintains the journals that this process serves: adopts, trims, checkpoints and gives them back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from ...adapters.host.machine_time import machine_time
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...config import Config
from ...exceptions import JournalError
from ...recurring import RecurringLog
from .journal_set import JournalSet

__all__ = ["InThread", "JournalMaintenance"]

logger = logging.getLogger("lightbus.journal")

T = TypeVar("T")

InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function in a thread."""

ADOPT_EVERY = 3.0
"""Seconds between two searches for journals of ended processes, plus or minus a third: not all search at once."""

MAX_ADOPTED = 8
"""
Adopted journals kept open although all groups have handled them, so that their events can be read. Each takes eight
descriptors, and each restart of another process may add one; the next process to start continues one of them.
"""

CHECKPOINT_EVERY = 1.0
TRIM_EVERY = 30.0


class RetentionSource(Protocol):
    """Tells which events groups have not handled: the coordinator. Only used from its loop."""

    def journal_added(self, journal: Journal) -> None:
        """Serve one more journal."""

    def journal_removed(self, journal: Journal) -> None:
        """Stop serving a journal."""

    def serves(self, journal: Journal) -> bool:
        """Return whether the positions of all groups in a journal are known."""

    def cursors_of(self, journal: Journal, topic: Topic) -> dict[str, int]:
        """Return the position in a topic of each group that its events are kept for."""

    def expired(self, now: float, group_expiry: float) -> list[KnownGroup]:
        """Return the groups without members for so long."""

    def forget(self, api: str, name: str) -> bool:
        """Remove a group."""

    def lost(self, group: str, api: str, event: str, count: int) -> None:
        """Record that retention deleted events that a group had not handled."""


class JournalMaintenance:
    """
    Maintains the journals of a publisher. Made and stopped on the node's loop.

    Files are accessed in threads, one at a time, so that no event waits for this.
    """

    def __init__(
        self,
        journals: JournalSet,
        coordinator: RetentionSource,
        config: Config,
        executor: Executor,
        maintain_more: Callable[[InThread], Awaitable[None]] | None = None,
    ) -> None:
        self._journals = journals
        self._coordinator = coordinator
        self._config = config
        self._executor = executor
        self._failures = RecurringLog(logger)
        self._maintain_more = maintain_more
        """Further maintenance, done whenever journals are adopted."""
        self._adopt_at = self._trim_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle = self._loop.call_soon(self._look)

    async def stop(self) -> None:
        """Stop, and wait until no thread uses a journal any more."""
        self.abandon()
        if self._task is not None:
            await asyncio.wait([self._task])

    def abandon(self) -> None:
        """Stop without waiting, because the loop is about to end, or has ended."""
        self._timer.cancel()
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._task.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(CHECKPOINT_EVERY, self._look)
        if self._task is None:
            self._task = self._loop.create_task(self._maintain())

    async def _maintain(self) -> None:
        now = time.monotonic()
        try:
            if now >= self._adopt_at:
                self._adopt_at = now + ADOPT_EVERY * random.uniform(0.67, 1.33)
                await self._adopt()
            if now >= self._trim_at:
                self._trim_at = now + TRIM_EVERY
                await self._trim()
            await self._each(lambda journal: self._in_thread(partial(self._check_files, journal)))
            self._failures.recovered("care")
        except JournalError as error:
            self._failures.log("care", logging.ERROR, "%s", error)
        except Exception as error:
            text = "Maintaining the journals failed (%r); it is tried again"
            self._failures.log("care", logging.ERROR, text, error, exc_info=error)
        finally:
            self._task = None

    async def _each(self, maintain: Callable[[Journal], Awaitable[None]]) -> None:
        """Do this with each journal. If it fails with some, the error of the first one is raised after the others."""
        failed: JournalError | None = None
        for journal in self._journals.all():
            try:
                await maintain(journal)
            except JournalError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _check_files(self, journal: Journal) -> None:
        try:
            journal.restore_removed_files()
        finally:
            if journal.is_closed:  # another process has it
                self._loop.call_soon_threadsafe(self._coordinator.journal_removed, journal)
        journal.checkpoint()

    async def _adopt(self) -> None:
        for journal in await self._in_thread(self._journals.adopt):
            self._coordinator.journal_added(journal)
        adopted = [journal for journal in self._journals.all() if journal is not self._journals.opened]
        for journal in adopted:
            if len(adopted) > MAX_ADOPTED and self._is_settled(journal):
                adopted = [each for each in adopted if each is not journal]
                self._coordinator.journal_removed(journal)
                await self._in_thread(partial(self._journals.give_back, journal))
        if self._maintain_more is not None:
            await self._maintain_more(self._in_thread)

    def _is_settled(self, journal: Journal) -> bool:
        """Return whether every group has handled all events of a journal, and it has no dead letter."""
        if not self._coordinator.serves(journal) or journal.dead_letters.all(limit=1):
            return False
        return all(
            acked >= last
            for topic, last in journal.topics.lasts.items()
            for acked in self._coordinator.cursors_of(journal, topic).values()
        )

    async def _trim(self) -> None:
        try:
            self._remove_expired(self._config.journal.group_expiry)
        finally:
            await self._each(self._trim_journal)

    def _remove_expired(self, group_expiry: float) -> None:
        for info in self._coordinator.expired(machine_time(), group_expiry):
            self._coordinator.forget(info.api, info.name)
            logger.warning(
                "The group %s of %s had no member for %d days and is removed: no more events are kept for it",
                info.name, info.api, group_expiry / 86_400,
            )  # fmt: skip

    async def _trim_journal(self, journal: Journal) -> None:
        if not self._coordinator.serves(journal):
            return  # it would seem that no group has anything left to handle
        settings = self._config.journal
        cursors = {topic: self._coordinator.cursors_of(journal, topic) for topic in journal.topics.all()}
        trim = partial(
            journal.retention.trim,
            min_age=settings.min_age,
            max_events=settings.max_events,
            max_bytes=settings.max_bytes,
            cursors=cursors,
        )
        losses: Counter[tuple[str, str, str]] = Counter()
        for group, topic, count in await self._in_thread(trim):
            losses[group, topic.api, topic.event] += count
        for (group, api, event), count in losses.items():
            self._coordinator.lost(group, api, event, count)
        if journal is not self._journals.opened and journal.retention.is_drained():
            self._coordinator.journal_removed(journal)
            await self._in_thread(partial(self._journals.drop, journal))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run a function in a thread, and wait for its end even if cancelled: it uses a journal."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            future.exception()  # else asyncio would report that nobody has seen it
            raise
