"""The sockets that connect to a worker: a DEALER for calls, a SUB for events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import zmq

from ...ports.transport import LinkState
from .loop_socket import NOBLOCK, LoopSocket
from .monitoring import Monitor

__all__ = ["Dealer", "Subscriber"]


class Dealer(LoopSocket):
    """Speaks with one ROUTER. Frames sent before the connection stands wait here, not in libzmq."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        super().__init__(socket)
        self._monitor = None if on_state is None else Monitor(socket, on_state)

    def connect(self, endpoint: str) -> None:
        if self._monitor is not None:
            self._monitor.may_want_key = endpoint.startswith("tcp://")  # a file of mode host asks for none
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

    def _stop_watching(self, *, abandoned: bool = False) -> None:
        if self._monitor is not None:
            self._monitor.stop(abandoned=abandoned)

    def _receive(self) -> None:
        self._on_message(self._receive_part(NOBLOCK))

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
        self._paused = self._is_enough = True

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        self._look_again()

    def _receive(self) -> None:
        self._on_message(self._receive_part(NOBLOCK))
