"""Has published events be read no faster than the listeners handle them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from .listener_queue import ListenerQueue
from .reading_rounds import ReadingRounds, ReadOnDemand

__all__ = ["ReadingPace"]

PORTION = 256
"""Events read before the listeners get their turn."""

MAX_PAUSE = 0.01
"""Seconds for which reading waits for a listener to catch up."""


class Reads(ReadOnDemand, Protocol):
    """What reads the events of one publisher."""

    def resume(self) -> None:
        """Resume reading."""


class Handles(Protocol):
    """A listener at work."""

    queue: ListenerQueue


class ReadingPace:
    """
    Pauses reading after each portion until the listeners have caught up. Only touched from the node's loop.

    Otherwise a flood would keep the loop busy with reading, and the queues would fill up. A listener that needs longer
    is not waited for: what comes waits in the journal (of best effort: in its queue, up to its bound).

    Where all listeners are given events as they came, these are read in rounds: such a listener takes them in no time.

    Args:
        readers: what reads, by publisher.
        runners: the listeners.

    """

    def __init__(self, readers: Mapping[str, Reads], runners: Sequence[Handles]) -> None:
        self._readers = readers
        self._runners = runners
        self._count = 0
        self._rounds = ReadingRounds(readers)
        self._chosen_for = 0
        """How many listeners there were when it was decided whether to read in rounds."""
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
            self._pause = asyncio.get_running_loop().call_later(MAX_PAUSE, self._go_on_without_the_slow)
            for reader in self._readers.values():
                reader.pause()

    def _choose(self) -> None:
        """Begin to read in rounds if all listeners are given events as they came, and end that if they are not."""
        self._chosen_for = len(self._runners)
        if self._runners and all(queue.listener.takes_raw for queue in self._queues):
            self._rounds.begin()
        elif self._rounds.are_on:
            self._rounds.end()
            self._resume()

    def caught_up(self) -> None:
        """Record that a listener has caught up: resume reading once all that are not slow have."""
        if self._pause is not None and not any(
            queue.backlog and not queue.is_slow and not queue.waits for queue in self._queues
        ):
            self._resume()

    def close(self) -> None:
        """Read nothing more."""
        self._closed = True
        self._rounds.end()
        if self._pause is not None:
            self._pause.cancel()
        for reader in self._readers.values():
            reader.pause()

    @property
    def _queues(self) -> Iterable[ListenerQueue]:
        return (runner.queue for runner in self._runners)

    def _go_on_without_the_slow(self) -> None:
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
