"""Limits the reading of published events to the pace of the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from .listener_queue import ListenerQueue
from .reading_rounds import ReadingRounds, ReadOnDemand

__all__ = ["ReadingPace"]

PORTION = 256
"""Events read before the listeners get a turn."""

MAX_PAUSE = 0.01
"""Seconds for which reading waits for a listener to catch up."""


class Reads(ReadOnDemand, Protocol):
    """Reads the events of one publisher."""

    def resume(self) -> None:
        """Resume reading."""


class Handles(Protocol):
    """A running listener."""

    queue: ListenerQueue


class ReadingPace:
    """
    Pauses reading after each portion until the listeners have caught up. Only touched from the node's loop.

    Otherwise a flood of events would keep the loop busy with reading, and the queues would fill up. Reading does not
    wait for a listener that needs longer than `MAX_PAUSE`: its events stay in the journal (those of best effort in its
    queue, up to the limit).

    If all listeners take undecoded events, these are read in rounds: such a listener takes almost no time.

    Args:
        readers: the readers, by publisher.
        runners: the listeners.

    """

    def __init__(self, readers: Mapping[str, Reads], runners: Sequence[Handles]) -> None:
        self._readers = readers
        self._runners = runners
        self._count = 0
        self._rounds = ReadingRounds(readers)
        self._chosen_for = 0
        """The number of listeners when it was decided whether to read in rounds."""
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def note_received(self, count: int) -> None:
        """Record that so many events were read."""
        if self._chosen_for != len(self._runners):
            self._choose()
        if self._rounds.are_on:
            self._rounds.note_received(count)
            return
        self._count += count
        if self._count >= PORTION and self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(MAX_PAUSE, self._resume_without_slow_queues)
            for reader in self._readers.values():
                reader.pause()

    def _choose(self) -> None:
        """Read in rounds if all listeners take undecoded events; otherwise stop reading in rounds."""
        self._chosen_for = len(self._runners)
        if self._runners and all(queue.listener.takes_raw for queue in self._queues):
            if self._pause is not None:
                self._pause.cancel()
                self._pause = None
            self._rounds.begin()
        elif self._rounds.are_on:
            self._rounds.end()
            asyncio.get_running_loop().call_soon(self._resume)  # later: one of them is reading now

    def listener_removed(self) -> None:
        """Stop reading in rounds if no listener is left, or if only others than those of undecoded events are."""
        self._choose()

    def caught_up(self) -> None:
        """Resume reading if all listeners have caught up, except slow ones. Called when a listener has."""
        if self._pause is not None and not any(
            queue.backlog and not queue.is_slow and not queue.waits for queue in self._queues
        ):
            self._resume()

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._rounds.end()
        if self._pause is not None:
            self._pause.cancel()
        for reader in self._readers.values():
            reader.pause()

    @property
    def _queues(self) -> Iterable[ListenerQueue]:
        return (runner.queue for runner in self._runners)

    def _resume_without_slow_queues(self) -> None:
        for queue in self._queues:
            queue.is_slow = queue.backlog > 0
        self._resume()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._count = 0
        if not self._closed:
            for reader in self._readers.values():
                reader.resume()
