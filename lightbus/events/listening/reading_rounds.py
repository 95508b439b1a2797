"""Reads published events a few times a second, one publisher after the other, instead of as they arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Protocol

__all__ = ["EVERY", "PORTION", "ReadOnDemand", "ReadingRounds"]

EVERY = 0.05
"""
Seconds between two rounds.

A loop that is woken for each message of a hundred publishers spends more on being woken than on the messages. What
arrives in between waits in libzmq, and behind that at the publisher.
"""

PORTION = 2048
"""Events read before the rest of the loop, the listeners included, gets a turn."""


class ReadOnDemand(Protocol):
    """What reads the events of one publisher."""

    def pause(self) -> None:
        """Read nothing that is published for now."""

    def read(self) -> bool:
        """Read now what was published, also during a pause; return whether there is more."""


class ReadingRounds:
    """
    Reads all publishers, round after round. Only touched from the node's loop.

    Args:
        readers: what reads, by publisher; those that come are read from the next round on.

    """

    def __init__(self, readers: Mapping[str, ReadOnDemand]) -> None:
        self._readers = readers
        self._left: deque[ReadOnDemand] = deque()
        """The readers that still have their turn in this round: those that had more have another one."""
        self._reading: ReadOnDemand | None = None
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        """When to read next; None if events are not read in rounds."""

    @property
    def are_on(self) -> bool:
        """Whether events are read in rounds."""
        return self._timer is not None

    def begin(self) -> None:
        """Read in rounds from now on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._read)
            for reader in self._readers.values():
                reader.pause()

    def end(self) -> None:
        """Stop reading: readers stay paused."""
        self._left.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note_received(self, count: int) -> None:
        """Record that so many events were read, and stop the reader at the end of a portion."""
        self._count += count
        if self._count >= PORTION and self._reading is not None:
            self._reading.pause()

    def _read(self) -> None:
        try:
            self._read_portion()
        finally:  # whatever one reader raised: the others are read all the same
            self._reading = None
            if self._timer is not None:
                self._timer = asyncio.get_running_loop().call_later(0 if self._left else EVERY, self._read)

    def _read_portion(self) -> None:
        """Read each reader of the round once, or as many as make a portion."""
        if not self._left:
            self._left.extend(self._readers.values())
        self._count = 0
        more: list[ReadOnDemand] = []
        while self._left and self._count < PORTION:
            self._reading = reader = self._left.popleft()
            reader.pause()  # it may be new
            if reader.read():
                more.append(reader)
        if self._timer is not None:
            self._left.extend(more)
