"""The sockets that connect to a worker: a DEALER for calls, a SUB for events."""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from ...ports.transport import LinkState
from .loop_socket import NOBLOCK, LoopSocket

__all__ = ["Dealer", "Subscriber"]

_CLOSED_BY_PEER = (errno.EPIPE, errno.ECONNRESET)


class Dealer(LoopSocket):
    """Speaks with one ROUTER. Frames sent before the connection stands wait here, not in libzmq."""

    _EVENT_STATES: ClassVar[dict[int, LinkState]] = {
        zmq.EVENT_CONNECTED: LinkState.REACHED,
        zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkState.CONNECTED,
        zmq.EVENT_DISCONNECTED: LinkState.DISCONNECTED,
        zmq.EVENT_CLOSED: LinkState.REFUSED,
        zmq.EVENT_CONNECT_RETRIED: LinkState.REFUSED,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: LinkState.HANDSHAKE_FAILED,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: LinkState.DENIED,
        zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkState.DENIED,
    }

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._shook_hands = False
        self._may_want_key = True
        self._monitor: zmq.Socket[bytes] | None = None
        self._monitor_descriptor = -1
        super().__init__(socket)
        if on_state is not None:
            self._watch()

    def connect(self, endpoint: str) -> None:
        self._may_want_key = endpoint.startswith("tcp://")  # a file of mode host asks for none
        super().connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Send now; False where the connection does not stand yet, or others wait already."""
        return not self._waiting and self._send(frame)

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
        self._stop_watching()
        super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._stop_watching()
        super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        self._stop_watching(abandoned=True)
        super().abandon()

    def _receive(self) -> None:
        self._on_message(self._socket.recv(NOBLOCK))

    def _writable(self) -> None:
        while self._waiting:
            frame, on_sent, wanted = self._waiting[0]
            if wanted is not None and not wanted():
                self._waiting.popleft()
                continue
            if not self._send(frame):
                return
            self._waiting.popleft()
            if on_sent is not None:
                on_sent()

    def _watch(self) -> None:
        events = 0
        for event in self._EVENT_STATES:
            events |= event
        self._monitor = self._socket.get_monitor_socket(events)
        self._monitor_descriptor = int(self._monitor.FD)
        self.loop.add_reader(self._monitor_descriptor, self._monitored)
        self.loop.call_soon(self._monitored)

    def _monitored(self) -> None:
        while self._monitor is not None:
            try:
                parts = self._monitor.recv_multipart(NOBLOCK)
            except zmq.ZMQError:
                return
            message = parse_monitor_message(parts)
            state = self._EVENT_STATES.get(int(message["event"]))
            if state is not None and self._on_state is not None:
                self._on_state(self._seen_as(state, int(message["value"])))

    def _seen_as(self, state: LinkState, value: int) -> LinkState:
        """Tell a handshake that the peer broke off from other ends: with another key than ours it cannot say more."""
        if state is LinkState.CONNECTED:
            self._shook_hands = True
        closed = state is LinkState.HANDSHAKE_FAILED and value in _CLOSED_BY_PEER
        broken_off = state is LinkState.DISCONNECTED and not self._shook_hands
        denied = state is LinkState.DENIED or closed or broken_off
        if denied and self._may_want_key:
            return LinkState.DENIED
        return LinkState.HANDSHAKE_FAILED if state is LinkState.DENIED else state

    def _stop_watching(self, *, abandoned: bool = False) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            if not abandoned:
                self.loop.remove_reader(self._monitor_descriptor)
            # In this order, and not with `disable_monitor`: while libzmq has an event for a monitor that nobody reads
            # any more, its thread waits for ever, and with it everything.
            with contextlib.suppress(zmq.ZMQError):
                self._socket.monitor(None, 0)
            monitor.close(linger=0)


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
        self._paused = True

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        self._look_again()

    def _receive(self) -> None:
        self._on_message(self._socket.recv(NOBLOCK))
