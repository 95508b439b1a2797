"""Has published events be read some times a second, all publishers one after the other, and not as they arrive."""

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

    def read(self) -> None:
        """Read now what was published, also during a pause."""


class ReadingRounds:
    """
    Reads all publishers, round after round. Only touched from the node's loop.

    Args:
        readers: what reads, by publisher; those that come are read from the next round on.

    """

    def __init__(self, readers: Mapping[str, ReadOnDemand]) -> None:
        self._readers = readers
        self._left: deque[ReadOnDemand] = deque()
        """What is still to be read in this round."""
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def are_on(self) -> bool:
        """Whether events are read in rounds."""
        return self._timer is not None

    def begin(self) -> None:
        """Read in rounds from now on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._read)
            self._pause_all()

    def end(self) -> None:
        """Read nothing any more: readers are left paused."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note_received(self, count: int) -> None:
        """Record that so many events were read, and stop the reader at the end of a portion."""
        self._count += count
        if self._count >= PORTION and self._left:
            self._left[0].pause()

    def _pause_all(self) -> None:
        for reader in self._readers.values():
            reader.pause()

    def _read(self) -> None:
        if not self._left:
            self._left.extend(self._readers.values())
        self._count = 0
        while self._left and self._count < PORTION:
            reader = self._left[0]
            reader.pause()  # it may be new
            reader.read()
            if self._count < PORTION:
                self._left.popleft()
        if self._timer is not None:
            self._timer = asyncio.get_running_loop().call_later(0 if self._left else EVERY, self._read)
