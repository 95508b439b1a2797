"""A fair queue: each sender has a queue of its own, so that one that sends much does not delay the others."""

from __future__ import annotations

import random
from collections import deque
from typing import Generic, TypeVar

__all__ = ["MAX_SENDERS", "MAX_WAITING_BYTES", "FairQueue", "SenderQueue"]

T = TypeVar("T")

SenderQueue = tuple[str, bool]
"""A sender's address, and which of its two queues: whether that of its answers, or that of its questions."""

MAX_SENDERS = 64
"""The most queues at a time. Further senders share one: source addresses are easily forged."""

MAX_WAITING_BYTES = 256 * 1024
"""The most bytes in one queue; an item that does not fit is refused."""

_OTHERS: SenderQueue = ("", False)


class FairQueue(Generic[T]):
    """A queue for each sender, from which one item at a time is taken in turn. For one thread."""

    def __init__(self) -> None:
        self._queues: dict[SenderQueue, deque[tuple[int, T]]] = {}
        """The queues that are not empty; the sender whose turn is next comes first."""
        self._waiting: dict[SenderQueue, int] = {}
        """The bytes in each queue."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, sender: SenderQueue, size: int, item: T) -> bool:
        """
        Add an item of `size` bytes; return whether there was room for it.

        If the shared queue is full, the item may replace a random one in it, although False is returned. Otherwise a
        single sender that keeps it full would shut out all others that share it.
        """
        if sender not in self._queues and len(self._queues) >= MAX_SENDERS:
            sender = _OTHERS
        waiting = self._waiting.get(sender, 0)
        if waiting + size > MAX_WAITING_BYTES:
            if sender == _OTHERS and sender in self._queues:
                self._replace(self._queues[sender], size, item)
            return False
        self._queues.setdefault(sender, deque()).append((size, item))
        self._waiting[sender] = waiting + size
        return True

    def _replace(self, queue: deque[tuple[int, T]], size: int, item: T) -> None:
        place = random.randrange(len(queue))
        if size <= queue[place][0]:
            self._waiting[_OTHERS] += size - queue[place][0]
            queue[place] = size, item

    def take(self) -> T:
        """Remove and return the oldest item of the sender whose turn it is. Raises StopIteration if there is none."""
        sender = next(iter(self._queues))
        queue = self._queues.pop(sender)
        size, item = queue.popleft()
        if queue:
            self._queues[sender] = queue  # at the end: all others come first
            self._waiting[sender] -= size
        else:
            del self._waiting[sender]
        return item
