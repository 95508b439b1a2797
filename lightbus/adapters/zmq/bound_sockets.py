"""The sockets that peers connect to: a ROUTER for calls, an XPUB for events. What they queue for peers is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import zmq

from .backlogs import Backlogs
from .bundles import BUNDLED, MOST_BYTES, Bundle, frames_of
from .gate import Gate
from .loop_socket import EVENTS, NOBLOCK, POLLIN, LoopSocket
from .unread_replies import UnreadReplies

__all__ = ["PublishingSocket", "Router"]

_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_RCVMORE = int(zmq.RCVMORE)
_SOURCE = int(zmq.SRCFD)
"""The descriptor of the connection that a message came over."""

LARGE, FAIR_BYTES = 64 * 1024, 64 * 1024 * 1024
"""Smallest size of a large message, and bytes of large messages read before the rest of the loop gets a turn."""

LEAST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two checks whether a caller has read waiting results; the pause grows while it has not."""


class _BoundSocket(LoopSocket):
    """A socket that peers connect to. The gate watches it until right before it is closed, by any method."""

    SUBSCRIPTIONS = False
    """Whether only subscriptions arrive at it."""

    def __init__(self, socket: zmq.Socket[bytes], gate: Gate) -> None:
        self._gate = gate
        super().__init__(socket)
        gate.read_by(socket, self._ask, subscriptions=self.SUBSCRIPTIONS)

    def _ask(self, answer: Callable[[bool], None]) -> None:
        """Have the loop call `answer(is_empty)`. Called from another thread."""
        self.loop.call_soon_threadsafe(lambda: answer(self.is_empty()))

    def unbind(self, endpoint: str) -> None:
        self._gate.before_unbind(self._socket, endpoint)
        super().unbind(endpoint)

    def close(self) -> None:
        self._gate.unwatch(self._socket)
        super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._gate.unwatch(self._socket)
        super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        self._gate.unwatch(self._socket)
        super().abandon()


class Router(_BoundSocket):
    """
    Receives from many callers, and answers each by its routing id.

    Threads that execute calls send their answers themselves. So each use of the socket, and of the unread replies, is
    under a lock, which makes a socket usable from several threads (zmq_socket(3): "with a full fence memory barrier").
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes, bytes], None],
        gate: Gate,
    ) -> None:
        self._on_message = on_message
        self._lock = threading.RLock()
        self.unread = UnreadReplies(self._send_frame, self._count_dropped)
        self._pause = LEAST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._read_bytes = 0
        """Bytes of large messages read since the loop last got a turn for them."""
        self._bundles: dict[bytes, Bundle] = {}
        """Answers to the messages being read in this turn, by receiver."""
        super().__init__(socket, gate)

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send to a known connection, or queue for it; False (and counted) if the connection is gone."""
        if self._draining and not self._is_first:
            together = self._bundles.get(routing_id)
            return (together is not None and together.takes(frame)) or self._keep(routing_id, frame)
        with self._lock:
            if not self.unread.takes(routing_id, frame):
                is_sent = self._send_frame(routing_id, frame)
                if is_sent and not self._draining and not self._read_is_scheduled:
                    self._check_after_sending()
                return is_sent
        self._hand_over_soon()
        return True

    def send_from_thread(self, routing_id: bytes, frame: bytes) -> bool:
        """Send from a thread that is not the loop's; False also if the socket is closed."""
        with self._lock:
            if self._socket.closed:
                return False
            is_kept = self.unread.takes(routing_id, frame)
            is_sent = is_kept or self._send_frame(routing_id, frame)
            # Sending may have cleared the descriptor's report to the loop, even while the loop is reading.
            has_more = not self._read_is_scheduled and self._has_more()
        if has_more:
            self._read_is_scheduled = True
            self.loop.call_soon_threadsafe(self._readable)
        if is_kept:
            self.loop.call_soon_threadsafe(self._hand_over_soon)
        return is_sent

    def bind(self, endpoint: str) -> str:
        with self._lock:
            return super().bind(endpoint)

    def unbind(self, endpoint: str) -> None:
        with self._lock:
            super().unbind(endpoint)

    def close(self) -> None:
        self._stop_handing_over()
        with self._lock:
            super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._stop_handing_over()
        with self._lock:
            self._flush()
            self.unread.flush()
            super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        with self._lock:
            super().abandon()

    def _stop_handing_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _hand_over_soon(self) -> None:
        if self._timer is None and self.unread and not self.closed:
            self._hand_over_later(LEAST_PAUSE)

    def _hand_over_later(self, pause: float) -> None:
        self._pause = min(pause, LONGEST_PAUSE)
        self._timer = self.loop.call_later(self._pause, self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        if not self.closed:
            with self._lock:
                anything = self.unread.hand_over()
            self._schedule_read()
            if self.unread:
                self._hand_over_later(LEAST_PAUSE if anything else 2 * self._pause)

    def _keep(self, routing_id: bytes, frame: bytes) -> bool:
        """Queue a frame to be sent with others to the same receiver, after the messages being read now."""
        together = self._bundles.get(routing_id)
        if together is None:
            together = self._bundles[routing_id] = Bundle()
        if together.takes(frame):
            return True
        del self._bundles[routing_id]
        with self._lock:
            self._send_all(routing_id, together)
            if len(frame) > MOST_BYTES:
                return self._send_each(routing_id, [frame])
        return self._keep(routing_id, frame)

    def _flush(self) -> bool:
        if not self._bundles:
            return False
        together, self._bundles = self._bundles, {}
        with self._lock:
            for routing_id, bundle in together.items():
                self._send_all(routing_id, bundle)
        return True

    def _send_all(self, routing_id: bytes, bundle: Bundle) -> None:
        if not bundle.frames:
            return
        if not self.unread.has_room(routing_id, bundle.size):
            self._send_each(routing_id, bundle.frames)
        elif not self._send_frame(routing_id, bundle.message()):
            self.dropped += len(bundle.frames) - 1

    def _count_dropped(self, count: int) -> None:
        self.dropped += count

    def _send_each(self, routing_id: bytes, frames: list[bytes]) -> bool:
        """Give libzmq frames one by one, or keep those that must wait; return whether none was lost."""
        taken = [self.unread.takes(routing_id, frame) or self._send_frame(routing_id, frame) for frame in frames]
        self._hand_over_soon()
        return all(taken)

    def _send_frame(self, routing_id: bytes, frame: bytes) -> bool:
        """Give libzmq a message. Only under the lock; the caller must make sure that the socket is read afterwards."""
        try:
            self._send_part(routing_id, _NOBLOCK_MORE)
            self._send_part(frame, NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.dropped += 1
            return False
        return True

    def _has_more(self) -> bool:
        with self._lock:
            return self._get(EVENTS) & POLLIN > 0

    def _receive(self) -> None:
        with self._lock:
            routing_id = self._receive_part(NOBLOCK)
            if self.unread.knows(routing_id):
                # Bytes and a query for more parts: a Frame, which knows its connection, costs three times as much.
                message, has_more = self._receive_part(NOBLOCK), self._get(_RCVMORE)
            else:
                frame = self._receive_part(NOBLOCK, False)
                with contextlib.suppress(zmq.ZMQError):
                    self.unread.on_message(routing_id, int(frame.get(_SOURCE)))
                message, has_more = frame.bytes, frame.more
            if has_more:
                message = self._skip_rest()
        if len(message) >= LARGE:
            self._read_bytes += len(message)
            if self._read_bytes >= FAIR_BYTES:
                self._read_bytes, self._reads_left = 0, 0
        if message[:1] != BUNDLED:
            self._on_message(routing_id, message)
            return
        self._is_first = False
        for frame in frames_of(message):
            self._reads_left -= 1
            self._on_message(routing_id, frame)

    def _skip_rest(self) -> bytes:
        """Read the remaining parts of a foreign message: otherwise they would be taken for a routing id."""
        while self._receive_part(NOBLOCK, False).more:
            pass
        return b""


class PublishingSocket(_BoundSocket):
    """Sends each frame to every subscriber that has subscribed to a prefix of it."""

    SUBSCRIPTIONS = True

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_subscription: Callable[[bytes, bool], None],
        gate: Gate,
    ) -> None:
        self._on_subscription = on_subscription
        self.backlogs = Backlogs()
        super().__init__(socket, gate)

    def send(self, frame: bytes) -> None:
        """Publish, without waiting. A subscriber that is too far behind misses the frame and notices the gap."""
        self._send(frame)
        self.backlogs.published(len(frame))

    def _receive(self) -> None:
        received = self._receive_part(NOBLOCK, False)
        message = received.bytes
        topic, subscribed = message[1:], message[:1] == b"\1"
        with contextlib.suppress(zmq.ZMQError):  # an unsubscription made by libzmq itself has no connection
            self.backlogs.on_subscription(int(received.get(_SOURCE)), topic, subscribed=subscribed)
        if message and message[0] <= 1:  # 1 subscribes, 0 unsubscribes (RFC 29); anything else is foreign
            if not subscribed:
                self.backlogs.unsubscribed(topic)
            self._on_subscription(topic, subscribed)
