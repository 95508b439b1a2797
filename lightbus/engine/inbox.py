"""
The queue of large messages to be decoded: bounded in bytes, for each connection and for all.

Decoding a message takes ten times as long as reading it. Large messages that arrive faster than they are decoded would
pile up in libzmq, which limits the number of messages and not their bytes. So all are read at once, and the large ones
are queued here, with the later messages of the same connection, which keeps their order. They are decoded one at a
time, by connections in turn, so that other tasks of the loop run in between. Messages beyond the limits are refused
without decoding.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from ..wire.envelope import Kind, call_id_of

__all__ = ["IN_ALL", "LARGE", "OVERHEAD", "Inbox"]

LARGE = 16 * 1024
"""
Bytes from which on a message is queued: to decode a smaller one usually takes little longer than to queue it, and at
most a millisecond even if it is crafted to take long.
"""

IN_ALL = 64 * 1024 * 1024
"""
Bytes that may be queued in all; half of these for one connection. More if a single message may be larger, as it may
with the default of `network.max_message_size`.
"""

OVERHEAD = 128
"""Bytes of memory that a queued message takes in addition to its frame."""

PER_TURN = 256 * 1024
"""Bytes decoded before other tasks of the loop get a turn; at least one message."""

_CANCEL, _REQUEST = bytes([Kind.CANCEL]), bytes([Kind.REQUEST])


class _Sender:
    __slots__ = ("calls", "frames", "given_up", "size")

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        """The ids of queued calls that were not cancelled."""
        self.given_up: Counter[int] = Counter()
        """The ids of queued calls that were cancelled; in the queue these come before other calls of the same id."""
        self.frames: deque[tuple[bytes, float]] = deque()
        """The queued frames, each with the time at which it was read."""
        self.size = 0


class Inbox:
    """
    The queue of frames to be decoded. Only touched from the loop that it was made on.

    Args:
        handle: decodes and handles a frame of a connection, which was queued for so many seconds.
        refuse: tells a connection that one of its frames was dropped without decoding.
        largest: the largest message, in bytes.

    """

    def __init__(
        self,
        handle: Callable[[bytes, bytes, float], None],
        refuse: Callable[[bytes, bytes], None],
        largest: int,
    ) -> None:
        self.size = 0
        """Queued bytes."""
        self._handle = handle
        self._refuse = refuse
        self._most_in_all = max(IN_ALL, largest + OVERHEAD)
        self._most = max(self._most_in_all // 2, largest + OVERHEAD)
        self._senders: dict[bytes, _Sender] = {}
        """The connections with queued frames, the next one first."""
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None

    def takes(self, routing_id: bytes, frame: bytes) -> bool:
        """Queue a frame, or refuse it, if needed; return False if it may be handled at once."""
        sender = self._senders.get(routing_id)
        if sender is None and len(frame) < LARGE:
            return False
        if sender is None:
            sender = self._senders[routing_id] = _Sender()
        if frame[:1] == _REQUEST:
            sender.calls[call_id_of(frame)] += 1
        elif frame[:1] == _CANCEL and (count := sender.calls.pop(call_id_of(frame), 0)):
            sender.given_up[call_id_of(frame)] += count
        sender.frames.append((frame, time.monotonic()))
        self._count(sender, len(frame) + OVERHEAD)
        if sender.size > self._most:
            self._refuse_newest(routing_id, sender)
        while self.size > self._most_in_all:
            self._refuse_newest(*max(self._senders.items(), key=lambda each: each[1].size))
        if self._turn is None:
            self._turn = self._loop.call_soon(self._hand_on)
        return True

    def close(self) -> None:
        """Drop all queued frames."""
        self._senders.clear()
        self.size = 0
        if self._turn is not None:
            self._turn.cancel()

    def _hand_on(self) -> None:
        self._turn = None
        left = PER_TURN
        while self._senders and left > 0:
            routing_id, sender = next(iter(self._senders.items()))
            del self._senders[routing_id]
            frame, since = sender.frames.popleft()
            self._count(sender, -len(frame) - OVERHEAD)
            left -= len(frame) + OVERHEAD
            if sender.frames:
                self._senders[routing_id] = sender  # behind all others
            if not _uncount(frame, sender.given_up, sender.calls):
                self._handle(routing_id, frame, time.monotonic() - since)
        if self._senders and self._turn is None:
            self._turn = self._loop.call_soon(self._hand_on)

    def _refuse_newest(self, routing_id: bytes, sender: _Sender) -> None:
        frame, _ = sender.frames.pop()
        _uncount(frame, sender.calls, sender.given_up)
        self._count(sender, -len(frame) - OVERHEAD)
        if not sender.frames:
            del self._senders[routing_id]
        self._refuse(routing_id, frame)

    def _count(self, sender: _Sender, size: int) -> None:
        sender.size += size
        self.size += size


def _uncount(frame: bytes, first: Counter[int], then: Counter[int]) -> bool:
    """Remove a call that leaves the queue from `first`, or else from `then`; return whether it was in `first`."""
    if frame[:1] != _REQUEST:
        return False
    call_id = call_id_of(frame)
    counted = first if call_id in first else then
    counted[call_id] -= 1
    if not counted[call_id]:
        del counted[call_id]
    return counted is first
