"""The sockets that connect to a worker: a DEALER for calls, a SUB for events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import zmq

from ...ports.transport import LinkState
from .backlogs import CLOSED, GONE, KernelConnection
from .bundles import BUNDLED, Bundle, frames_of
from .loop_socket import BURST, NOBLOCK, LoopSocket
from .monitoring import Monitor

__all__ = ["CautiousSubscriber", "Dealer", "Subscriber"]

_SOURCE = int(zmq.SRCFD)
"""The descriptor of the connection that a message came over."""

UNSEEN = 0.001
"""Seconds in which nothing is read after which it is looked whether a publisher is still connected."""

LOCK_TIMEOUT = 0.05
"""Seconds for which giving up a connection waits until the loop does not use the socket."""

MANY = 16
"""Messages read between two checks: fewer than libzmq waits for until it fills a full queue again."""


class Dealer(LoopSocket):
    """
    A socket to one ROUTER. Frames sent before it is connected wait here, not in libzmq.

    Its connection can be given up from another thread, while its loop stands still (`unsolicited_messages`). So each
    use of the socket is under a lock, which makes it usable from several threads (zmq_socket(3): "with a full fence
    memory barrier").
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
        awaited: Callable[[], int] = int,
    ) -> None:
        self.endpoint = ""
        self.awaited = awaited
        """Tells, from any thread, how many answers are waited for."""
        self._lock = threading.RLock()
        self._is_given_up = False
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._together = Bundle()
        """What leaves at the end of this turn of the loop."""
        self._waits_for_turn = False
        """Whether queued frames are sent at the end of this turn of the loop."""
        self._were_many = False
        """Whether several did so in the turn before: then the first one of the next turn does, too."""
        self._sent_at = 0.0
        super().__init__(socket)
        self._monitor = None if on_state is None else Monitor(socket, on_state)

    def connect(self, endpoint: str) -> None:
        if self._monitor is not None:
            self._monitor.may_want_key = endpoint.startswith("tcp://")  # a file of mode host asks for none
        self.endpoint = endpoint
        with self._lock:
            super().connect(endpoint)

    def ask(self, answer: Callable[[bool], None]) -> None:
        """Have the loop answer whether nothing waits to be read. Raises RuntimeError where it is closed."""
        self.loop.call_soon_threadsafe(lambda: answer(self.is_empty()))

    def give_up(self) -> bool:
        """Receive nothing more until all is read that has come; False where that cannot be now. From any thread."""
        if not self._lock.acquire(timeout=LOCK_TIMEOUT):
            return False
        try:
            if self.closed or self._is_given_up:
                return False
            with suppress(zmq.ZMQError):  # it is over already
                self._socket.disconnect(self.endpoint)
            self._is_given_up = True
        finally:
            self._lock.release()
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._look_again)
        return True

    def is_empty(self) -> bool:
        with self._lock:
            return super().is_empty()

    def send(self, frame: bytes) -> bool:
        """Send now, or with others of this turn of the loop; False where there is no connection or others wait."""
        if self._waiting or self._is_given_up:
            return False
        if self._waits_for_turn:
            return self._together.takes(frame) or self._keep(frame)
        now = time.monotonic()
        is_burst = self._were_many or now - self._sent_at < BURST
        self._sent_at = now
        if is_burst:
            self._waits_for_turn = True
            self.loop.call_soon(self._end_turn)
            return self._keep(frame)
        with self._lock:
            if not self._send_now(frame):
                return False
            if not self._draining:
                self._look_after_sending()
        return True

    def _keep(self, frame: bytes) -> bool:
        """Have a frame leave at the end of this turn of the loop."""
        if not self._together.takes(frame):
            self._flush()
            if self._waiting:
                return False
            if not self._together.takes(frame):
                return self._send_now(frame)  # it is large
        return True

    def _end_turn(self) -> None:
        self._waits_for_turn, self._were_many = False, len(self._together.frames) > 1
        with self._lock:
            if not self.closed:
                self._flush()
                self._look_after_sending()

    def _look_after_sending(self) -> None:
        if not self._look_again_is_due and self._has_more():  # sending may have swallowed what would have told us
            self._look_again()

    def _flush(self) -> bool:
        frames = self._together.frames
        if not frames:
            return False
        message, self._together = self._together.message(), Bundle()
        if not self._send_now(message):
            for frame in frames:
                self.send_later(frame)
        return True

    def _send_now(self, frame: bytes) -> bool:
        """Send without waiting. The caller makes sure that the socket is read afterwards."""
        with self._lock:
            if self._is_given_up:  # libzmq may take it all the same, for a connection that is ending
                return False
            try:
                self._send_part(frame, NOBLOCK)
            except zmq.Again:
                return False
        return True

    def send_later(
        self,
        frame: bytes,
        on_sent: Callable[[], None] | None = None,
        *,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Keep a frame until the connection takes it; then call `on_sent`. Drop it if it is not `wanted` any more."""
        self._waiting.append((frame, on_sent, wanted))
        self._look_again()

    def close(self) -> None:
        with self._lock:
            self._stop_watching()
            if not self.closed:
                self._flush()
            super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        with self._lock:
            self._stop_watching()
            if not self.closed:
                self._flush()
            super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        with self._lock:
            self._stop_watching(abandoned=True)
            super().abandon()

    def _stop_watching(self, *, abandoned: bool = False) -> None:
        if self._monitor is not None:
            self._monitor.stop(abandoned=abandoned)

    def _readable(self) -> None:
        with self._lock:
            super()._readable()
            if self._is_given_up and not self.closed and not self._has_more():
                self._go_on()

    def _go_on(self) -> None:
        """Connect again, after all was read of a connection that was given up; a link is closed."""
        self._is_given_up = False
        if self._on_state is None:
            self._socket.connect(self.endpoint)
            self._look_again()
        else:
            self._on_state(LinkState.DISCONNECTED)

    def _receive(self) -> None:
        message = self._receive_part(NOBLOCK)
        if message[:1] != BUNDLED:
            self._on_message(message)
            return
        for frame in frames_of(message):
            self._left -= 1
            self._on_message(frame)

    def _writable(self) -> None:
        while self._waiting and not self._is_given_up:
            frame, on_sent, wanted = self._waiting[0]
            if wanted is not None and not wanted():
                self._waiting.popleft()
                continue
            if not self._send(frame):
                return
            self._waiting.popleft()
            if on_sent is not None:
                on_sent()


class Subscriber(LoopSocket):
    """Receives what one publisher publishes, as far as it is subscribed."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        super().__init__(socket)

    def subscribe(self, prefix: bytes) -> None:
        """Ask for everything that begins with `prefix`."""
        self._socket.subscribe(prefix)
        self._look_again()

    def unsubscribe(self, prefix: bytes) -> None:
        """Take back one `subscribe`."""
        self._socket.unsubscribe(prefix)
        self._look_again()

    def pause(self) -> None:
        """Read nothing for now: what arrives waits in libzmq's queue, up to its high-water mark."""
        self._paused, self._left = True, 0

    def resume(self) -> None:
        """Resume reading."""
        self._paused = False
        if self._is_overdue:  # of many publishers that are paused together most had nothing to say meanwhile
            self._is_overdue = False
            self._look_again()

    def _receive(self) -> None:
        self._on_message(self._receive_part(NOBLOCK))


class CautiousSubscriber(Subscriber):
    """
    A subscriber to a publisher that cannot be trusted.

    Its queue in libzmq is bounded, so it is looked, before it is read after a while and now and then meanwhile, whether
    the connection is still there. Where it is not and the queue was full, reading on would end the process: libzmq
    goes on with what it had stopped at, and answers a heartbeat of the publisher's over what is no connection any more
    (`transport._without_own_heartbeats`). So the connection is given up first. What is in the queue is read even so.

    Not for a socket of this host (ipc): only our own user's processes are there, and this library sends no heartbeats.
    """

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[bytes], None]) -> None:
        self._endpoint = ""
        self._connection: KernelConnection | None = None
        """What the messages come over, as far as that is known."""
        self._given_up = 0
        """The inode of the one before."""
        self._seen_at = 0.0
        super().__init__(socket, on_message)

    def connect(self, endpoint: str) -> None:
        self._endpoint = endpoint
        super().connect(endpoint)

    def _readable(self) -> None:
        now = time.monotonic()
        if now - self._seen_at > UNSEEN and not self.closed:
            self._see_whether_it_is_there()
        super()._readable()
        self._seen_at = time.monotonic()

    def _receive(self) -> None:
        if self._connection is None:
            frame = self._receive_part(NOBLOCK, False)
            self._learn_connection(frame)
            self._on_message(frame.bytes)
        else:
            self._on_message(self._receive_part(NOBLOCK))
        if self._left % MANY == 1 and not self.closed:
            self._see_whether_it_is_there()

    def _learn_connection(self, frame: zmq.Frame) -> None:
        with suppress(zmq.ZMQError, OSError):  # it has gone
            connection = KernelConnection(int(frame.get(_SOURCE)))
            if connection.inode != self._given_up:  # else it was in the queue already
                self._connection = connection
                self._see_whether_it_is_there()

    def _see_whether_it_is_there(self) -> None:
        """Give the connection up if it has ended, and connect again."""
        if self._connection is None or not (state := self._connection.state) & GONE:
            return
        self._given_up, self._connection = self._connection.inode, None
        if state != CLOSED:  # else libzmq has seen to it
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)
            self._look_again()
