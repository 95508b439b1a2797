"""What many senders send, in turns: who sends much fills only the queue of his own, and delays nobody else."""

from __future__ import annotations

import random
from collections import deque
from typing import Generic, TypeVar

__all__ = ["MAX_SENDERS", "MAX_WAITING_BYTES", "FairQueue", "SenderQueue"]

T = TypeVar("T")

SenderQueue = tuple[str, bool]
"""An address, and which of its queues: that of its questions, or that of its answers."""

MAX_SENDERS = 64
"""Queues at a time; further senders share one, since a source address is easily forged."""

MAX_WAITING_BYTES = 256 * 1024
"""Most bytes that wait in one queue; what does not fit is refused."""

_OTHERS: SenderQueue = ("", False)


class FairQueue(Generic[T]):
    """A queue for each sender; one item of each is taken in turn. For one thread."""

    def __init__(self) -> None:
        self._queues: dict[SenderQueue, deque[tuple[int, T]]] = {}
        """Of those who wait, in the order in which it is their turn."""
        self._waiting: dict[SenderQueue, int] = {}
        """The bytes in each queue."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, sender: SenderQueue, size: int, item: T) -> bool:
        """
        Add an item of so many bytes; return whether there was room for it.

        In the queue that senders share a further one takes the place of any other: they would else have no chance
        beside one that keeps it full.
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
            self._queues[sender] = queue  # now the last
            self._waiting[sender] -= size
        else:
            del self._waiting[sender]
        return item
