"""
Replies that callers have not read yet: libzmq bounds them by number, not by bytes.

A hundred results of 4 MiB are 400 MiB for one caller that calls and does not read. So libzmq is given a few MiB for
each connection, and the next ones once it could write all of those; the others are kept here and their bytes counted. A
connection that takes nothing while too many bytes arrive for it is closed, as one that does not read events is
(`backlogs`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from .backlogs import GONE, WRITABLE, KernelConnection, should_log

__all__ = ["AHEAD", "MAX_UNREAD", "MAX_UNREAD_IN_ALL", "UnreadReplies"]

logger = logging.getLogger("lightbus.transport")

AHEAD = 8 * 1024 * 1024
"""Bytes that libzmq is given for one connection before we check whether it could write them."""

MAX_UNREAD = 100 * 1024 * 1024
"""Bytes kept for a connection that takes none before it is closed: a hundred results of 1 MiB may wait."""

MAX_UNREAD_IN_ALL = 256 * 1024 * 1024
"""Bytes kept for all connections before the one with the most of them is closed."""

FEW = 1024
"""Known connections before we check, for the first time, which of them are gone."""


class _UnreadByCaller:
    __slots__ = ("connection", "given", "is_closed", "kept", "kept_bytes", "untaken")

    def __init__(self, connection: KernelConnection) -> None:
        self.connection = connection
        self.given = 0
        """Bytes given to libzmq since it last had nothing left to write."""
        self.kept: deque[bytes] = deque()
        self.kept_bytes = 0
        self.untaken = 0
        """Bytes kept since the connection last took something."""
        self.is_closed = False


class UnreadReplies:
    """
    The replies that wait for the callers of one ROUTER. Used under the socket's lock.

    Args:
        send: gives libzmq a frame for a routing id.
        on_dropped: called with the number of frames dropped because their connection ended before they were sent.
        most: bytes kept for a connection that takes none.
        most_in_all: bytes kept for all connections.

    """

    def __init__(
        self,
        send: Callable[[bytes, bytes], bool],
        on_dropped: Callable[[int], None],
        most: int = MAX_UNREAD,
        most_in_all: int = MAX_UNREAD_IN_ALL,
    ) -> None:
        self.closed = 0
        """The number of connections closed because they did not read."""
        self.kept_bytes = 0
        self._send = send
        self._on_dropped = on_dropped
        self._most = most
        self._most_in_all = most_in_all
        self._callers: dict[bytes, _UnreadByCaller] = {}
        self._with_kept: dict[bytes, _UnreadByCaller] = {}
        """The callers for which replies are kept."""
        self._look_at = FEW

    def __len__(self) -> int:
        return len(self._callers)

    def __bool__(self) -> bool:
        """Whether any reply is kept."""
        return bool(self._with_kept)

    def knows(self, routing_id: bytes) -> bool:
        """Return whether the connection of this id is known. An id chosen by a caller may mean another one later."""
        return routing_id in self._callers and routing_id[0] == 0  # ids that libzmq chose begin with a zero

    def on_message(self, routing_id: bytes, descriptor: int) -> None:
        """Record that `routing_id` sent a message over the connection with this descriptor of libzmq's."""
        with suppress(OSError):  # the connection is gone
            connection = KernelConnection(descriptor)
            known = self._callers.get(routing_id)
            if known is None or known.connection.inode != connection.inode:
                self._forget(routing_id)
                self._callers[routing_id] = _UnreadByCaller(connection)
        if len(self._callers) > self._look_at:
            for each in [each for each, caller in self._callers.items() if not caller.connection.is_there]:
                self._forget(each)
            self._look_at = max(FEW, 2 * len(self._callers))

    def takes(self, routing_id: bytes, frame: bytes) -> bool:
        """Return whether the frame was kept (or dropped) here; if False, the caller gives it to libzmq."""
        caller = self._callers.get(routing_id)
        if caller is None:
            return False
        caller.given += len(frame)
        return caller.given > AHEAD and self._keeps(routing_id, caller, frame)

    def has_room(self, routing_id: bytes, size: int) -> bool:
        """Count bytes, and return whether libzmq may be given them; if False, call `takes` for each frame."""
        caller = self._callers.get(routing_id)
        if caller is None:
            return True
        if caller.given + size > AHEAD:
            return False
        caller.given += size
        return True

    def hand_over(self) -> bool:
        """Give libzmq what it can write now; return whether it took anything."""
        taken = [self._hand_over(routing_id, caller) for routing_id, caller in list(self._with_kept.items())]
        return any(taken)

    def flush(self) -> None:
        """Give libzmq all kept replies: the socket is about to be closed."""
        for routing_id, caller in list(self._with_kept.items()):
            for frame in self._taken(routing_id, caller, None):
                self._send(routing_id, frame)

    def _keeps(self, routing_id: bytes, caller: _UnreadByCaller, frame: bytes) -> bool:
        if caller.is_closed:
            self._on_dropped(1)
            return True
        if not caller.kept and caller.connection.state & WRITABLE:
            caller.given = len(frame)
            return False
        caller.kept.append(frame)
        caller.kept_bytes += len(frame)
        caller.untaken += len(frame)
        self.kept_bytes += len(frame)
        self._with_kept[routing_id] = caller
        self._hand_over(routing_id, caller)
        if caller.untaken > self._most:
            self._close(routing_id, caller, caller.untaken)
        elif self.kept_bytes > self._most_in_all:
            routing_id, caller = max(self._with_kept.items(), key=lambda each: each[1].kept_bytes)
            self._close(routing_id, caller, caller.kept_bytes)
        return True

    def _hand_over(self, routing_id: bytes, caller: _UnreadByCaller) -> bool:
        state = caller.connection.state
        if state & GONE:
            self._forget(routing_id)
        elif state & WRITABLE:
            caller.given = caller.untaken = 0
            for frame in self._taken(routing_id, caller, AHEAD):
                self._send(routing_id, frame)
            return True
        return False

    def _taken(self, routing_id: bytes, caller: _UnreadByCaller, most: int | None) -> Iterator[bytes]:
        while caller.kept and (most is None or caller.given < most):
            frame = caller.kept.popleft()
            caller.given += len(frame)
            caller.kept_bytes -= len(frame)
            self.kept_bytes -= len(frame)
            yield frame
        if not caller.kept:
            self._with_kept.pop(routing_id, None)

    def _forget(self, routing_id: bytes) -> None:
        caller = self._callers.pop(routing_id, None)
        if caller is not None:
            self._drop(routing_id, caller)

    def _drop(self, routing_id: bytes, caller: _UnreadByCaller) -> None:
        self._with_kept.pop(routing_id, None)
        self._on_dropped(len(caller.kept))
        self.kept_bytes -= caller.kept_bytes
        caller.kept_bytes = 0
        caller.kept.clear()

    def _close(self, routing_id: bytes, caller: _UnreadByCaller, size: int) -> None:
        """Close a connection. Until it is gone, all further replies to it are dropped."""
        self._drop(routing_id, caller)
        caller.is_closed, caller.given = True, AHEAD
        caller.connection.close()
        self.closed += 1
        if should_log(self.closed):
            logger.warning(
                "A caller has not read while %d MiB of results arrived for it, and was disconnected (%d so far). "
                "It will not get the results that it has not read",
                size // 2**20, self.closed,
            )  # fmt: skip
