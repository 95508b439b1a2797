"""
Large messages that wait to be decoded: bounded in bytes, for each connection and for all.

Decoding a message takes ten times as long as reading it. Large ones that arrive faster than they are decoded would pile
up in libzmq, which counts messages and not their bytes. So all are read at once, and the large ones wait here, with the
later messages of the same connection, which keeps their order. They are decoded one at a time, the connections taking
turns, so that everything else runs in between. Messages beyond the bounds are refused undecoded.
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
Bytes from which on a message waits: to decode a smaller one takes little longer than to put it aside, and a
millisecond where it is made to take long.
"""

IN_ALL = 64 * 1024 * 1024
"""
Bytes that may wait in all, and half of them for one connection; more where a single message may be larger, as it may
with the default of `network.max_message_size`.
"""

OVERHEAD = 128
"""Bytes that a message takes besides its own."""

PER_TURN = 256 * 1024
"""Bytes that are decoded before the rest of the loop gets its turn; at least one message."""

_CANCEL, _REQUEST = bytes([Kind.CANCEL]), bytes([Kind.REQUEST])


class _Sender:
    __slots__ = ("calls", "frames", "given_up", "size")

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        """The ids of the calls that wait and are still wanted."""
        self.given_up: Counter[int] = Counter()
        """Those of the calls that wait and are not: they come in front of any other of the same id."""
        self.frames: deque[tuple[bytes, float]] = deque()
        """Each with the time at which it was read."""
        self.size = 0


class Inbox:
    """
    What waits to be decoded. Only touched from the loop that it was made on.

    Args:
        handle: decodes and handles a frame of a connection, which has waited for so many seconds.
        refuse: informs a connection that one of its frames was dropped, undecoded.
        largest: bytes that a message may have.

    """

    def __init__(
        self,
        handle: Callable[[bytes, bytes, float], None],
        refuse: Callable[[bytes, bytes], None],
        largest: int,
    ) -> None:
        self.size = 0
        """Bytes that wait."""
        self._handle = handle
        self._refuse = refuse
        self._most_in_all = max(IN_ALL, largest + OVERHEAD)
        self._most = max(self._most_in_all // 2, largest + OVERHEAD)
        self._senders: dict[bytes, _Sender] = {}
        """The connections with waiting frames, the next one first."""
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None

    def takes(self, routing_id: bytes, frame: bytes) -> bool:
        """Return whether a frame waits or was refused; False: it may be handled at once."""
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
        """Drop what waits."""
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
    """Count a call no more that waited, with the first where it is there; return whether it was."""
    if frame[:1] != _REQUEST:
        return False
    call_id = call_id_of(frame)
    counted = first if call_id in first else then
    counted[call_id] -= 1
    if not counted[call_id]:
        del counted[call_id]
    return counted is first
