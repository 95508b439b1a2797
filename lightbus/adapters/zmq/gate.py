"""
The gate in front of the bound sockets of a context: it bounds the number of connections, and in mode bus_key it admits
the holders of the keys, and counts refused peers.

It is the one ZAP handler (RFC 27) of the context, in a thread of its own, so that neither a busy handler nor a blocked
loop delays a connecting peer, or lets the attempts of strangers pile up. libzmq itself does not log a failed
handshake: reports of the sockets' monitors are counted here, and logged now and then.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from queue import SimpleQueue
from weakref import WeakKeyDictionary

import zmq
from zmq.utils.monitor import parse_monitor_message

from ...phrases import INTERNAL_ERROR
from ..host.descriptors import connection_limit, descriptor_limit, descriptors_left
from .receive_limit import Ask, ReceiveLimit
from .socket_poll import SocketPoll
from .unsolicited_messages import UnsolicitedMessages
from .watched_socket import OF_THIS_HOST, AcceptMode, WatchedSocket

__all__ = ["Gate", "reason_of"]

logger = logging.getLogger("lightbus.security")

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
"""The endpoint of the ZAP handler, by RFC 27. A second handler could not bind it."""

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 3600.0
"""Seconds between two lines about refusals, doubling: a stranger must not fill the log."""

STOP_TIMEOUT = 1.0

AMPLE = 2048
"""With more free descriptors than this all connections are accepted; with fewer, one by one."""

NEAR_LIMIT = 0.8
"""The part of the possible connections above which a worker is reported as crowded."""

LOOK_EVERY = 50
"""Milliseconds between two checks for room while no connection is accepted."""

_FAILED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
)
_WATCHED = (
    int(zmq.EVENT_LISTENING),
    int(zmq.EVENT_ACCEPTED),
    int(zmq.EVENT_ACCEPT_FAILED),
    int(zmq.EVENT_DISCONNECTED),
    int(zmq.EVENT_MONITOR_STOPPED),
)

REASONS = {
    "other_key": "it has another key than this bus",
    "no_key": "it has no key",
    "malformed": "its handshake is invalid",
    "too_slow": "it did not complete the handshake",
    "broken_off": "it broke off the handshake: it may have no key, or only check whether the port is open",
    "too_many": "this process has as many connections open as it can (ulimit -n)",
}
"""The reasons of refusals, by which they are counted -> their text in the log."""


def reason_of(event: int, value: int) -> str:
    """Return why a handshake failed, one of `REASONS`, given a monitor's event and its value."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "other_key"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "too_slow" if value == errno.EAGAIN else "broken_off"
    return {
        int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "other_key",
        int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "no_key",
    }.get(value, "malformed")


class Gate:
    """
    The gate of one context, open from its creation until `stop`. Other threads use its public methods only.

    Args:
        context: the context of the sockets; it can have only one gate.
        admitted: the peers that may connect: CURVE public key -> name for the log and the `User-Id`; None: all peers.
        limit: most connections at a time to all sockets together; None: as many as descriptors allow.
        largest: the largest message, in bytes.
        unsolicited: the bound on messages at connecting sockets, checked by the gate's thread, too.
        clock: returns seconds, for the pauses between log lines.

    Attributes:
        counts: the admitted peers, and the refused ones by reason (`REASONS`). Only the gate's thread writes it.

    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admitted: Mapping[bytes, str] | None,
        *,
        limit: int | None = None,
        largest: int = 0,
        unsolicited: UnsolicitedMessages | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._admitted = dict(admitted or {})
        self._events = sum((*_WATCHED, *(() if admitted is None else _FAILED)))
        self._context = context
        self._limit = connection_limit(descriptor_limit()) if limit is None else limit
        self._clock = clock
        self._accept_mode = AcceptMode.ALL
        self._lock = threading.Lock()  # guards `_ring`
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Functions that the gate's thread shall call."""
        self._unsolicited = unsolicited
        self._poll = SocketPoll()
        self._watched: WeakKeyDictionary[zmq.Socket[bytes], WatchedSocket] = WeakKeyDictionary()
        self._monitors: dict[zmq.Socket[bytes], WatchedSocket] = {}
        self._log_at = 0.0
        self._pause = FIRST_PAUSE
        with ExitStack() as opened:  # if a step fails, the next attempt must be able to bind, too
            self._zap, self._wakeup, self._ring = (
                opened.enter_context(closing(context.socket(kind))) for kind in (zmq.REP, zmq.PAIR, zmq.PAIR)
            )
            self._zap.bind(ZAP_ENDPOINT)
            bell = f"inproc://lightbus-gate-{os.urandom(8).hex()}"
            self._wakeup.bind(bell)
            self._ring.connect(bell)
            self.receive_limit = opened.enter_context(closing(ReceiveLimit(largest)))
            self._thread = threading.Thread(target=self._run, name="lightbus-gate", daemon=True)
            self._thread.start()
            opened.pop_all()

    @property
    def connections(self) -> int:
        """The number of connections to the watched sockets."""
        return sum(map(len, list(self._monitors.values())))

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy if there is room for few more connections or none; else None."""
        left = min(self._limit - self.connections, descriptors_left())
        if left > self._limit * (1 - NEAR_LIMIT):
            return None
        return (
            f"It has {self.connections} connections and room for {max(0, left)} more; beyond that they are refused. "
            "Raise the limit of open files (ulimit -n; LimitNOFILE= of systemd)."
        )

    @property
    def refusals(self) -> dict[str, int]:
        """The number of refused connections so far, by reason."""
        return {reason: self.counts[reason] for reason in REASONS if self.counts[reason]}

    @property
    def refused(self) -> int:
        """The number of refused connections so far."""
        return sum(self.refusals.values())

    def watch(self, socket: zmq.Socket[bytes]) -> Callable[[], None]:
        """Watch a socket that is about to be bound; return a function to call before the socket is closed."""
        endpoint = f"inproc://lightbus-watch-{os.urandom(8).hex()}"
        with ExitStack() as opened:
            monitor = opened.enter_context(closing(self._context.socket(zmq.PAIR)))
            monitor.set(zmq.LINGER, 0)
            # Unbounded: at a bound libzmq would wait, and so would the thread that ends the monitor, while it holds the
            # interpreter's lock, which our thread needs to read.
            monitor.set(zmq.RCVHWM, 0)
            socket.monitor(endpoint, self._events)
            # Connect here: libzmq's thread, and all connections with it, would wait for a reader of the first event.
            monitor.connect(endpoint)
            opened.pop_all()
        watch = self._watched[socket] = WatchedSocket()
        self._tasks.put(partial(self._register, monitor, watch))
        self._wake()
        return partial(self.unwatch, socket)

    def read_by(self, socket: zmq.Socket[bytes], ask: Ask, *, subscriptions: bool = False) -> None:
        """Bound the incoming messages of a watched socket; `ask` asks its loop whether all messages are read."""
        watch = self._watched[socket]
        self._tasks.put(lambda: self.receive_limit.add(watch, ask, subscriptions=subscriptions))
        self._wake()

    def before_unbind(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Record that a watched socket is about to stop listening at an endpoint. Call this before it does."""
        watch = self._watched.get(socket)
        if watch is not None:
            watch.stops_listening(endpoint)

    def stop(self) -> None:
        """Stop the thread and close its sockets: no peer is admitted any more. Waits for 1 s at most; call it once."""
        for socket in list(self._watched):
            self.unwatch(socket)
        self._wake(b"stop")
        self._thread.join(STOP_TIMEOUT)
        with self._lock:
            self._ring.close(linger=0)

    def unwatch(self, socket: zmq.Socket[bytes]) -> None:
        """Stop watching a socket, if it is watched. Call this before the socket is closed."""
        watch = self._watched.pop(socket, None)
        if watch is not None:
            watch.end()
            self._tasks.put(partial(self.receive_limit.remove, watch))
            self._wake()
        # End the monitor now, while our thread reads its last events; libzmq would do it in a thread of its own.
        with suppress(zmq.ZMQError):
            if not socket.closed:
                socket.monitor(None, 0)

    # Run in the gate's thread

    def _run(self) -> None:
        self._poll.add(self._zap)
        self._poll.add(self._wakeup)
        if self.receive_limit.descriptor is not None:
            self._poll.add_descriptor(self.receive_limit.descriptor)
        is_open = True
        while is_open:
            try:
                is_open = self._turn()
            except zmq.ContextTerminated:
                is_open = False
            except Exception:  # without this thread no peer could connect, and libzmq would wait for its reader
                logger.exception("One check of new connections failed, and the next ones are made: %s", INTERNAL_ERROR)
        self._do_tasks()
        self.receive_limit.close()
        for socket in (self._zap, self._wakeup, *self._monitors):
            socket.close(linger=0)

    def _turn(self) -> bool:
        """Wait for the next event, handle it, and return whether to continue."""
        for socket in self._poll.wait(self._timeout()):
            if socket is self._zap:
                self._answer()
            elif socket is self._wakeup:
                if self._wakeup.recv() == b"stop":
                    return False
                self._do_tasks()
            elif isinstance(socket, int):
                self.receive_limit.woken(time.monotonic())
            elif not self._look(socket):
                self._poll.remove(socket)
                del self._monitors[socket]
                socket.close(linger=0)
        self.receive_limit.look(time.monotonic())
        if self._unsolicited is not None:
            self._unsolicited.look(time.monotonic())
        if self._accept_mode is AcceptMode.NONE or self.receive_limit.is_over:
            self._adjust_accept_mode()
        if self._accept_mode is AcceptMode.NONE and not self.receive_limit.is_over:
            self._turn_away()
        return True

    def _timeout(self) -> int | None:
        """Return the milliseconds until the next check is due; None if none is."""
        pauses = [LOOK_EVERY] if self._accept_mode is AcceptMode.NONE else []
        seconds = (self.receive_limit.pause, None if self._unsolicited is None else self._unsolicited.pause)
        return min([*pauses, *(int(each * 1000) for each in seconds if each is not None)], default=None)

    def _do_tasks(self) -> None:
        while not self._tasks.empty():
            self._tasks.get()()

    def _register(self, monitor: zmq.Socket[bytes], watch: WatchedSocket) -> None:
        self._monitors[monitor] = watch
        self._poll.add(monitor)

    def _adjust_accept_mode(self) -> None:
        left = 0 if self.receive_limit.is_over else min(self._limit - self.connections, descriptors_left())
        mode = AcceptMode.ALL if left > AMPLE else AcceptMode.ONE_AT_A_TIME if left > 0 else AcceptMode.NONE
        if mode is not self._accept_mode or mode is AcceptMode.ONE_AT_A_TIME:
            self._accept_mode = mode
            for watch in self._monitors.values():
                watch.set_accept_mode(mode)

    def _turn_away(self) -> None:
        for watch in self._monitors.values():
            for address in watch.turn_away():
                self.counts["too_many"] += 1
                self._log("too_many", f"from {address}" if address else OF_THIS_HOST)

    def _answer(self) -> None:
        version, request, _, _, _, mechanism, *credentials = self._zap.recv_multipart()
        name = self._admitted.get(credentials[0]) if mechanism == b"CURVE" and credentials else None
        if name is None:
            self._zap.send_multipart([version, request, b"400", b"not a holder of the key", b"", b""])
        else:
            self.counts["admitted"] += 1
            self._zap.send_multipart([version, request, b"200", b"", name.encode(), b""])

    def _look(self, monitor: zmq.Socket[bytes]) -> bool:
        """Handle one event of a socket's monitor; return whether there can be more events."""
        message = parse_monitor_message(monitor.recv_multipart())
        event, value = int(message["event"]), int(message["value"])
        if event == zmq.EVENT_MONITOR_STOPPED:
            return False
        watch = self._monitors[monitor]
        if event == zmq.EVENT_LISTENING:
            watch.listens(value, message["endpoint"].decode(), self._accept_mode)
            self._adjust_accept_mode()
        elif event == zmq.EVENT_ACCEPT_FAILED:
            self._adjust_accept_mode()
        elif event == zmq.EVENT_ACCEPTED:
            is_full = self.connections >= self._limit
            watch.accepted(value, message["endpoint"].decode(), is_full=is_full)
            self.receive_limit.accepted(watch, value)
            self._adjust_accept_mode()
        elif event in _FAILED:
            watch.failed = reason_of(event, value)
        elif event == zmq.EVENT_DISCONNECTED:
            self.receive_limit.disconnected(watch, value)
            reason, address = watch.disconnected(value)
            if reason:
                self.counts[reason] += 1
                self._log(reason, address)
        return True

    def _log(self, reason: str, address: str) -> None:
        now = self._clock()
        if now < self._log_at:
            return
        self._log_at, self._pause = now + self._pause, min(self._pause * 2, LONGEST_PAUSE)
        logger.warning("refused %d connections so far, the last %s: %s", self.refused, address, REASONS[reason])

    def _wake(self, what: bytes = b"") -> None:
        with self._lock, suppress(zmq.ZMQError):  # stopped already
            if not self._ring.closed:
                self._ring.send(what, zmq.NOBLOCK)
