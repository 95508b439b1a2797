"""
The gate in front of the bound sockets of a context: it admits holders of a key, and sees who was refused.

It is the one handler of ZAP (RFC 27) that a context has, in a thread of its own, so that neither a busy handler nor a
blocked loop keeps anybody waiting at the door, or lets strangers' knocking pile up. libzmq itself says nothing of a
handshake that fails: what the sockets' monitors report is counted here, and logged now and then.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket as sockets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from weakref import WeakSet

import zmq
from zmq.utils.monitor import parse_monitor_message

__all__ = ["Gate", "reason_of"]

logger = logging.getLogger("lightbus.security")

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
"""Where libzmq asks, by RFC 27. A second handler could not even bind."""

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 3600.0
"""Seconds between two lines about refusals, doubling: a stranger must not fill the log."""

STOP_TIMEOUT = 1.0

FOR_OTHERS = 256
"""Descriptors that are left for whatever else the process does; of a small limit, half."""

_FAILED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
)
_WATCHED = sum((int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED), int(zmq.EVENT_MONITOR_STOPPED), *_FAILED))

NOT_SEEN = "from somebody who was gone at once"

REASONS = {
    "other_key": "it has another key than this bus",
    "no_key": "it has no key",
    "malformed": "its handshake is none",
    "too_slow": "it did not complete the handshake",
    "broken_off": "it broke off the handshake: it may have no key, or only look whether the port is open",
    "too_many": "as many as this process can hold are open (ulimit -n)",
}
"""Reason by which refusals are counted -> what the log says."""


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
    Open from the moment it is made until `stop`. Other threads use its public methods only.

    Args:
        context: of the sockets. There can be one gate to a context.
        admitted: who may connect: a name for the log and the `User-Id`, by CURVE public key.
        limit: connections at a time, of all the sockets together; without one, as many as descriptors allow.
        clock: seconds, for the pauses between log lines.

    Attributes:
        counts: admitted, and refused by reason (`REASONS`). Only the gate's thread writes.

    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admitted: Mapping[bytes, str],
        *,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._admitted = dict(admitted)
        self._context = context
        self._limit = _connections() if limit is None else limit
        self._clock = clock
        self._zap = context.socket(zmq.REP)
        try:
            self._zap.bind(ZAP_ENDPOINT)
        except zmq.ZMQError:
            self._zap.close(linger=0)
            raise
        bell = f"inproc://lightbus-gate-{os.urandom(8).hex()}"
        self._bell = context.socket(zmq.PAIR)
        self._bell.bind(bell)
        self._ring = context.socket(zmq.PAIR)
        self._ring.connect(bell)
        self._lock = threading.Lock()  # over `_ring`
        self._new: SimpleQueue[zmq.Socket[bytes]] = SimpleQueue()
        self._watched: WeakSet[zmq.Socket[bytes]] = WeakSet()
        self._monitors: dict[zmq.Socket[bytes], _Watch] = {}
        self._log_at = 0.0
        self._pause = FIRST_PAUSE
        self._thread = threading.Thread(target=self._run, name="lightbus-gate", daemon=True)
        self._thread.start()

    @property
    def refusals(self) -> dict[str, int]:
        """How many connections were refused so far, by reason."""
        return {reason: self.counts[reason] for reason in REASONS if self.counts[reason]}

    @property
    def refused(self) -> int:
        """How many connections were refused so far."""
        return sum(self.refusals.values())

    def watch(self, socket: zmq.Socket[bytes]) -> Callable[[], None]:
        """Watch a socket that is about to be bound, and return what ends that: to be called before it is closed."""
        endpoint = f"inproc://lightbus-watch-{os.urandom(8).hex()}"
        socket.monitor(endpoint, _WATCHED)
        monitor = self._context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        # Without a bound: libzmq would wait at it, and so would who ends the watch, holding the interpreter's lock that
        # our thread needs to go on reading.
        monitor.set(zmq.RCVHWM, 0)
        # Connected here: an event that nobody is connected for would hold up libzmq's thread, and with it everything.
        monitor.connect(endpoint)
        self._new.put(monitor)
        self._wake()
        self._watched.add(socket)
        return partial(self._unwatch, socket)

    def stop(self) -> None:
        """End the thread and close its sockets; from then on nobody is admitted any more. Bounded, and once."""
        for socket in list(self._watched):
            self._unwatch(socket)
        self._wake(b"stop")
        self._thread.join(STOP_TIMEOUT)
        with self._lock:
            self._ring.close(linger=0)

    def _unwatch(self, socket: zmq.Socket[bytes]) -> None:
        self._watched.discard(socket)
        # Now, while somebody reads the last events, and not when libzmq closes the socket, in a thread of its own.
        with suppress(zmq.ZMQError):
            if not socket.closed:
                socket.monitor(None, 0)

    # In the thread

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._zap, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        is_open = True
        while is_open:
            try:
                is_open = self._turn(poller)
            except zmq.ContextTerminated:
                is_open = False
            except Exception:  # without this thread nobody would get in, and libzmq would wait for its reader
                logger.exception("the gate could not take in what happened at a socket; it goes on")
        self._take_new(poller)
        for socket in (self._zap, self._bell, *self._monitors):
            socket.close(linger=0)

    def _turn(self, poller: zmq.Poller) -> bool:
        """Wait until something happens, take it in, and return whether to go on."""
        for socket, _ in poller.poll():
            if socket is self._zap:
                self._answer()
            elif socket is self._bell:
                if self._bell.recv() == b"stop":
                    return False
                self._take_new(poller)
            elif not self._look(socket):
                poller.unregister(socket)
                del self._monitors[socket]
                socket.close(linger=0)
        return True

    def _take_new(self, poller: zmq.Poller) -> None:
        while not self._new.empty():
            monitor = self._new.get()
            self._monitors[monitor] = _Watch()
            poller.register(monitor, zmq.POLLIN)

    def _answer(self) -> None:
        version, request, _, _, _, mechanism, *credentials = self._zap.recv_multipart()
        name = self._admitted.get(credentials[0]) if mechanism == b"CURVE" and credentials else None
        if name is None:
            self._zap.send_multipart([version, request, b"400", b"not a holder of the key", b"", b""])
        else:
            self.counts["admitted"] += 1
            self._zap.send_multipart([version, request, b"200", b"", name.encode(), b""])

    def _look(self, monitor: zmq.Socket[bytes]) -> bool:
        """Take in one event of a socket; return whether there can be more."""
        message = parse_monitor_message(monitor.recv_multipart())
        event, value = int(message["event"]), int(message["value"])
        if event == zmq.EVENT_MONITOR_STOPPED:
            return False
        watch = self._monitors[monitor]
        if event == zmq.EVENT_ACCEPTED:
            is_full = sum(map(len, self._monitors.values())) >= self._limit
            watch.accepted(value, message["endpoint"], is_full=is_full)
        elif event in _FAILED:
            watch.failed = reason_of(event, value)
        elif event == zmq.EVENT_DISCONNECTED:
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


class _Watch:
    """What the monitor of one socket has told: who is behind a descriptor, and why the latest handshake failed."""

    def __init__(self) -> None:
        self.failed = ""
        self._addresses: dict[int, str] = {}
        self._turned_away: set[int] = set()

    def __len__(self) -> int:
        return len(self._addresses)

    def accepted(self, descriptor: int, endpoint: bytes, *, is_full: bool) -> None:
        """Take in a connection; where there is no room for it, end it."""
        self._addresses[descriptor] = NOT_SEEN
        with suppress(OSError), _borrowed(descriptor) as connection:
            self._addresses[descriptor] = f"from {connection.getpeername()[0]}"
            # By now it may be another one that has this number: it must be one of this socket's, at least.
            if is_full and endpoint.endswith(b":%d" % connection.getsockname()[1]):
                self._turned_away.add(descriptor)
                connection.shutdown(sockets.SHUT_RDWR)

    def disconnected(self, descriptor: int) -> tuple[str, str]:
        """Return why the connection was refused (empty: it was not), and from where it came."""
        # One thread of libzmq reports for a socket, and a failure right before the end of its connection.
        reason, self.failed = self.failed, ""
        if descriptor in self._turned_away:
            self._turned_away.remove(descriptor)
            reason = "too_many"
        return reason, self._addresses.pop(descriptor, NOT_SEEN)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[sockets.socket]:
    """Give a connection of libzmq's, which goes on owning it, and may have closed it: any use may raise OSError."""
    # And not a copy of it: when all descriptors are taken, none could be made.
    connection = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _connections() -> int:
    """Return how many connections may be open at a time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - FOR_OTHERS, soft // 2) if soft != resource.RLIM_INFINITY else sys.maxsize
