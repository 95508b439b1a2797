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

CHECK_AFTER = 0.001
"""Seconds without a read after which we check whether the publisher is still connected."""

LOCK_TIMEOUT = 0.05
"""Seconds for which giving up a connection waits for the loop to stop using the socket."""

CHECK_EVERY = 16
"""Messages read between two checks: fewer than libzmq lets us read before it fills a full queue again."""


class Dealer(LoopSocket):
    """
    A socket to one ROUTER. Frames sent before it is connected wait here, not in libzmq.

    Another thread can give up the connection while the loop is blocked (`unsolicited_messages`). So each use of the
    socket is under a lock, which makes it usable from several threads (zmq_socket(3): "with a full fence memory
    barrier").
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
        """Returns the number of answers that are awaited; can be called from any thread."""
        self._lock = threading.RLock()
        self._is_given_up = False
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._bundle = Bundle()
        """The frames to send at the end of this turn of the loop."""
        self._waits_for_turn = False
        """Whether queued frames are sent at the end of this turn of the loop."""
        self._last_was_bundle = False
        """Whether the previous turn sent several frames: then already the first frame of the next turn is queued."""
        self._sent_at = 0.0
        super().__init__(socket)
        self._monitor: Monitor | None = None
        if on_state is not None:
            try:
                self._monitor = Monitor(socket, on_state)
            except BaseException:  # no descriptor is left
                self.close()
                raise

    def connect(self, endpoint: str) -> None:
        if self._monitor is not None:
            self._monitor.may_want_key = endpoint.startswith("tcp://")  # a socket of mode host asks for none
        self.endpoint = endpoint
        with self._lock:
            super().connect(endpoint)

    def ask(self, answer: Callable[[bool], None]) -> None:
        """Have the loop call `answer(is_empty)`. Raises RuntimeError if the loop is closed."""
        self.loop.call_soon_threadsafe(lambda: answer(self.is_empty()))

    def give_up(self) -> bool:
        """Disconnect until all received messages are read; return False if that is impossible now. From any thread."""
        if not self._lock.acquire(timeout=LOCK_TIMEOUT):
            return False
        try:
            if self.closed or self._is_given_up:
                return False
            with suppress(zmq.ZMQError):  # it has ended already
                self._socket.disconnect(self.endpoint)
            self._is_given_up = True
        finally:
            self._lock.release()
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._schedule_read)
        return True

    def is_empty(self) -> bool:
        with self._lock:
            return super().is_empty()

    def send(self, frame: bytes) -> bool:
        """Send now, or with other frames of this turn; False if there is no connection or other frames wait."""
        if self._waiting or self._is_given_up:
            return False
        if self._waits_for_turn:
            return self._bundle.takes(frame) or self._keep(frame)
        now = time.monotonic()
        is_burst = self._last_was_bundle or now - self._sent_at < BURST
        self._sent_at = now
        if is_burst:
            self._waits_for_turn = True
            self.loop.call_soon(self._end_turn)
            return self._keep(frame)
        with self._lock:
            if not self._send_now(frame):
                return False
            if not self._draining:
                self._check_after_sending()
        return True

    def _keep(self, frame: bytes) -> bool:
        """Queue a frame to be sent at the end of this turn of the loop."""
        if not self._bundle.takes(frame):
            self._flush()
            if self._waiting:
                return False
            if not self._bundle.takes(frame):
                return self._send_now(frame)  # too large for a bundle
        return True

    def _end_turn(self) -> None:
        self._waits_for_turn, self._last_was_bundle = False, len(self._bundle.frames) > 1
        with self._lock:
            if not self.closed:
                self._flush()
                self._check_after_sending()

    def _check_after_sending(self) -> None:
        if not self._read_is_scheduled and self._has_more():  # sending may have cleared the descriptor's report
            self._schedule_read()

    def _flush(self) -> bool:
        frames = self._bundle.frames
        if not frames:
            return False
        message, self._bundle = self._bundle.message(), Bundle()
        if not self._send_now(message):
            for frame in frames:
                self.send_later(frame)
        return True

    def _send_now(self, frame: bytes) -> bool:
        """Send without waiting. The caller must make sure that the socket is read afterwards."""
        with self._lock:
            if self._is_given_up:  # libzmq might still take the frame, for a connection that is ending
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
        """Keep a frame until the connection takes it, then call `on_sent`. Drop the frame once it is not `wanted`."""
        self._waiting.append((frame, on_sent, wanted))
        self._schedule_read()

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
                self._reconnect()

    def _reconnect(self) -> None:
        """Connect again, after all messages of the given-up connection were read; report a link as disconnected."""
        self._is_given_up = False
        if self._on_state is None:
            self._socket.connect(self.endpoint)
            self._schedule_read()
        else:
            self._on_state(LinkState.DISCONNECTED)

    def _receive(self) -> None:
        message = self._receive_part(NOBLOCK)
        if message[:1] != BUNDLED:
            self._on_message(message)
            return
        for frame in frames_of(message):
            self._reads_left -= 1
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
    """Receives the subscribed messages of one publisher."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        super().__init__(socket)

    def subscribe(self, prefix: bytes) -> None:
        """Subscribe to all messages that begin with `prefix`."""
        self._socket.subscribe(prefix)
        self._schedule_read()

    def unsubscribe(self, prefix: bytes) -> None:
        """Undo one `subscribe`."""
        self._socket.unsubscribe(prefix)
        self._schedule_read()

    def pause(self) -> None:
        """Stop reading for now: messages wait in libzmq's queue, up to its high-water mark."""
        self._paused, self._reads_left = True, 0

    def resume(self) -> None:
        """Resume reading."""
        self._paused = False
        if (
            self._has_missed_report and not self.closed
        ):  # of many paused publishers, most have sent nothing in the meantime
            self._has_missed_report = False
            self.loop.add_reader(self._descriptor, self._readable)
            self._schedule_read()

    def read(self) -> bool:
        """Read now what has arrived, up to `FAIR_SHARE` messages, also during a pause; return whether there is more."""
        if self.closed or not self._has_more():
            return False
        paused, self._paused = self._paused, False
        try:
            self._readable()
        finally:
            self._paused = paused
        return not self._socket.closed and self._has_more()

    def _receive(self) -> None:
        self._on_message(self._receive_part(NOBLOCK))


class CautiousSubscriber(Subscriber):
    """
    A subscriber to a publisher that is not trusted.

    Its queue in libzmq is bounded. If the connection ends while the queue is full, further reading would abort the
    process: libzmq resumes the stopped input, and answers a heartbeat of the publisher over a closed connection
    (`transport._without_own_heartbeats`). So the connection is checked before reading after a pause, and now and then
    while reading. If it has ended, it is given up first; messages in the queue are read even so.

    Not needed for a socket of this host (ipc): only our own user's processes are there, and this library's sockets
    send no heartbeats on it.
    """

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[bytes], None]) -> None:
        self._endpoint = ""
        self._connection: KernelConnection | None = None
        """The connection that messages arrive over; None while it is unknown."""
        self._given_up = 0
        """The inode of the previous connection."""
        self._seen_at = 0.0
        super().__init__(socket, on_message)

    def connect(self, endpoint: str) -> None:
        self._endpoint = endpoint
        super().connect(endpoint)

    def read(self) -> bool:
        self._check_after_a_while()  # to ask whether there is more is to read, as far as libzmq is concerned
        return super().read()

    def _readable(self) -> None:
        self._check_after_a_while()
        super()._readable()
        self._seen_at = time.monotonic()

    def _check_after_a_while(self) -> None:
        if not self.closed and time.monotonic() - self._seen_at > CHECK_AFTER:
            self._check_connection()

    def _receive(self) -> None:
        if self._connection is None:
            frame = self._receive_part(NOBLOCK, False)
            self._learn_connection(frame)
            self._on_message(frame.bytes)
        else:
            self._on_message(self._receive_part(NOBLOCK))
        if self._reads_left % CHECK_EVERY == 1 and not self.closed:
            self._check_connection()

    def _learn_connection(self, frame: zmq.Frame) -> None:
        with suppress(zmq.ZMQError, OSError):  # it is gone
            connection = KernelConnection(int(frame.get(_SOURCE)))
            if connection.inode != self._given_up:  # else the message was still queued from the previous connection
                self._connection = connection
                self._check_connection()

    def _check_connection(self) -> None:
        """If the connection has ended, give it up and connect again."""
        if self._connection is None or not (state := self._connection.state) & GONE:
            return
        self._given_up, self._connection = self._connection.inode, None
        if state != CLOSED:  # else libzmq has closed and reconnects it
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)
            self._schedule_read()
