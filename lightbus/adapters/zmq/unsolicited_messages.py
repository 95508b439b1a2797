"""
Messages that a connecting socket did not request: libzmq reads whatever a worker sends, even if nobody reads it here.

While a caller's event loop is blocked, or is sent more than it can read, unrequested answers would pile up in its
sockets, a gigabyte a second: their queues cannot be bounded (`transport._without_own_heartbeats`). So the memory of the
process is checked, as at a worker's gate (`receive_limit`). When it has grown, the loops are asked whether anything
waits to be read. Until they answer that nothing does, the bytes from each peer are read from its connections (`meter`).
Beyond a bound, the connections to the peer that sent most are given up: messages that libzmq has received stay, and the
loop reconnects once it has read them. Answers that are awaited do not count: each may be as large as a message.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol
from weakref import WeakSet

from ...recurring import RecurringLog
from .meter import Meter
from .receive_limit import LEAST_SENT, LOOK_CLOSELY, LOOK_SELDOM, MAX_WAITING, MIB, STEP, memory_in_use
from .socket_from_fd import socket_from_fd

__all__ = ["Receiver", "UnsolicitedMessages", "connections_to"]

logger = logging.getLogger("lightbus.transport")


class Receiver(Protocol):
    """A socket that sends requests to one peer, and is read by an event loop."""

    endpoint: str

    def awaited(self) -> int:
        """Return the number of awaited answers. Callable from any thread."""

    def ask(self, answer: Callable[[bool], None]) -> None:
        """Have the loop call `answer(is_empty)`. Raises RuntimeError if the loop is closed."""

    def give_up(self) -> bool:
        """Disconnect until all received messages are read; return False if that is impossible now. From any thread."""


class UnsolicitedMessages:
    """
    The incoming messages of the connecting sockets of a context. Any thread may use it.

    Args:
        largest: the largest message, in bytes.
        memory: returns the memory of the process, in bytes.

    """

    def __init__(self, largest: int = 0, *, memory: Callable[[], int] = memory_in_use) -> None:
        self.given_up = 0
        """How often the connections to a peer were given up."""
        self._largest = largest
        self._most = max(MAX_WAITING, 4 * largest)
        self._memory = memory
        self._log = RecurringLog(logger)
        self._lock = threading.Lock()  # guards the receivers
        self._receivers: WeakSet[Receiver] = WeakSet()
        self._on_growth: list[Callable[[], None]] = []
        self._looking = threading.Lock()  # guards all that follows: one thread checks at a time
        self._pause, self._look_at = LOOK_SELDOM, 0.0
        self._floor = 0
        """The memory in use when nothing waited; 0 before the first check."""
        self._counts = False
        """Whether the process has grown since nothing waited, so that bytes are counted."""
        self._measure_at = 0
        """The growth in bytes at which the connections are measured again."""
        self._waiting: dict[Receiver, bool] = {}
        """The sockets that may have messages to read; True if their loop was asked and has not answered yet."""
        self._meters: dict[int, tuple[str, Meter]] = {}
        """For each descriptor, the endpoint that it is connected to, and its meter."""
        self._ended: Counter[str] = Counter()
        """Bytes from connections that have ended, by endpoint."""

    def add(self, receiver: Receiver) -> None:
        """Watch a socket as long as it exists."""
        with self._lock:
            self._receivers.add(receiver)

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Have `callback` called from the checking thread at each check that finds the process grown."""
        self._on_growth.append(callback)

    @property
    def pause(self) -> float | None:
        """Seconds until the next check; None if there is nothing to check."""
        return self._pause if self._receivers else None

    def look(self, now: float) -> None:
        """Check, if it is due, whether too many messages wait."""
        if now >= self._look_at and self._looking.acquire(blocking=False):
            try:
                self._pause = LOOK_CLOSELY if self._look() else LOOK_SELDOM
                self._look_at = now + self._pause
            finally:
                self._looking.release()

    def _look(self) -> bool:
        """Check once; return whether to check again soon."""
        if not (memory := self._memory()):  # while no descriptor is free, it cannot be read
            return self._counts
        self._floor = min(self._floor or memory, memory)
        growth = memory - self._floor
        if growth < STEP:
            self._forget()
            return False
        for callback in self._on_growth:
            callback()
        if not self._counts:
            self._begin()
        elif not self._waiting:  # all have said that nothing waits
            self._forget()
            self._floor = memory
            return False
        self._ask()
        if growth >= self._measure_at:
            self._measure_at = growth + STEP
            self._measure()
            if growth > self._most:
                self._give_up(growth)
        return True

    def _begin(self) -> None:
        self._counts = True
        with self._lock:
            self._waiting = dict.fromkeys(self._receivers, False)
        self._measure()
        for _, meter in self._meters.values():
            meter.reset()

    def _forget(self) -> None:
        self._counts, self._measure_at = False, 0
        for state in (self._waiting, self._meters, self._ended):
            state.clear()

    def _answered(self, receiver: Receiver, is_empty: bool) -> None:
        """Record the answer of a loop, in its thread."""
        if is_empty:
            self._waiting.pop(receiver, None)
        elif receiver in self._waiting:
            self._waiting[receiver] = False

    def _ask(self) -> None:
        for receiver, is_asked in list(self._waiting.items()):
            if not is_asked:
                self._waiting[receiver] = True
                try:
                    receiver.ask(partial(self._answered, receiver))
                except RuntimeError:  # its loop is closed
                    self._waiting.pop(receiver, None)

    def _measure(self) -> None:
        """Read the bytes of each connection; start to measure new connections."""
        for descriptor, (endpoint, meter) in list(self._meters.items()):
            meter.read()
            if not meter.connection.is_there:
                self._ended[endpoint] += meter.latest
                del self._meters[descriptor]
        for descriptor, endpoint in connections_to({receiver.endpoint for receiver in list(self._waiting)}):
            if descriptor not in self._meters:
                with suppress(OSError):  # it is gone
                    self._meters[descriptor] = endpoint, Meter(descriptor)

    def _give_up(self, growth: int) -> None:
        """Give up the connections to the peer that sent most, among those that sent more than was requested."""
        unsolicited = self._unsolicited_bytes()
        if not unsolicited:
            return
        endpoint, size = max(unsolicited.items(), key=lambda each: each[1])
        given_up = [each for each in list(self._waiting) if each.endpoint == endpoint and each.give_up()]
        if not given_up:
            return
        self.given_up += 1
        self._log.log(
            "unsolicited", logging.WARNING,
            "Unrequested messages wait to be read, and take %d MiB: the connection to %s, over which %d MiB "
            "came, was closed (%d so far), and is made again once they are read. Open calls to that peer may get no "
            "answer",
            growth // MIB, endpoint, size // MIB, self.given_up, changes=False,
        )  # fmt: skip

    def _unsolicited_bytes(self) -> dict[str, int]:
        """Return the bytes from each peer that sent more than is awaited from it."""
        came = Counter(self._ended)
        for endpoint, meter in self._meters.values():
            came[endpoint] += meter.latest
        may_come: Counter[str] = Counter()
        for receiver in list(self._waiting):
            may_come[receiver.endpoint] += receiver.awaited() * self._largest
        return {each: came[each] for each in may_come if came[each] >= LEAST_SENT + may_come[each]}


def connections_to(endpoints: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the descriptors of this process that are connected to an endpoint, and the endpoint. On Linux only."""
    if not endpoints or not Meter.POSSIBLE:
        return
    names: list[str] = []
    with suppress(OSError):  # no descriptor is free
        names = os.listdir("/proc/self/fd")
    for name in names:
        with suppress(OSError):  # closed meanwhile, or not connected
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                endpoint = _peer(int(name))
                if endpoint in endpoints:
                    yield int(name), endpoint


def _peer(descriptor: int) -> str:
    with socket_from_fd(descriptor) as found:
        address = found.getpeername()
        if found.family == socket.AF_UNIX:
            return f"ipc://{os.fsdecode(address)}"
        if found.family == socket.AF_INET:
            return f"tcp://{address[0]}:{address[1]}"
        return f"tcp://[{address[0]}]:{address[1]}" if found.family == socket.AF_INET6 else ""
