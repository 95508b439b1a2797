"""
Bounds messages that arrive faster than they are read: libzmq reads everything, and its queues have no bound.

(`transport._without_own_heartbeats` says why.) While a handler blocks the event loop, or small messages arrive faster
than they are handled, two gigabytes a second may pile up. A subscription costs a publisher fifty times its bytes in
memory, and a microsecond: 20 MiB of them at once block the publisher for seconds.

So the gate's thread checks. When the process has grown, or much has arrived over a connection for subscriptions, it
asks the loop whether anything waits to be read. As long as something does, the bytes that arrived over each connection
are read from its meter (`meter`). Beyond a bound, the peers that sent most are disconnected, and no connection is
accepted until all is read. The cost: the process's memory is read twenty times a second, five times while it does not
grow; messages cost nothing more.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from typing import TypeAlias

from ...recurring import RecurringLog
from .backlogs import MAX_TOPICS
from .meter import Meter

__all__ = ["MAX_WAITING", "Ask", "ReceiveLimit", "memory_in_use"]

logger = logging.getLogger("lightbus.transport")

MIB = 1024 * 1024

MAX_WAITING = 256 * MIB
"""
Bytes by which the process may grow while messages wait to be read. If a message may be larger than a quarter of this,
the bound is four such messages.
"""

STEP = 16 * MIB
"""Growth of the process, in bytes, from which on the loops are asked whether messages wait."""

LEAST_SENT = 16 * MIB
"""
Bytes that must have arrived, in all, before a peer is disconnected: it may be a handler that takes the memory.
The smallest messages take twenty times their bytes of memory.
"""

TOPICS_GROWTH, LEAST_TOPICS = 64 * MIB, 1 * MIB
"""
Bytes by which the process may grow while more than `LEAST_TOPICS` bytes of subscriptions wait: with equal topics it
hardly grows.
"""

FEW_TOPICS, MANY_TOPICS = 64 * 1024, 8 * MAX_TOPICS
"""Bytes of subscriptions that are not checked; and that may wait in all, whatever memory they take."""

LEAST_OF_ONE = 256 * 1024
"""Bytes that a connection must have sent to be closed among those that sent most."""

LOOK_EVERY, LOOK_CLOSELY, LOOK_SELDOM = 0.05, 0.01, 0.2
"""
Seconds between two checks; the second while messages wait and the process has grown; up to the third while it does not
grow at all: in an idle process a check costs more than all other work.
"""

Ask: TypeAlias = Callable[[Callable[[bool], None]], None]
"""
Asks the loop of a socket whether nothing waits to be read, and calls the given function there with the answer.
"""


def memory_in_use() -> int:
    """Return the memory of this process in bytes; 0 if the system does not provide it."""
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # a file object takes twice the calls
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
    finally:
        os.close(descriptor)


_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Incoming:
    """The bytes that arrived over the connections of one bound socket since nothing waited to be read."""

    def __init__(self, ask: Ask, memory: int) -> None:
        self.meters: dict[int, Meter] = {}
        """By descriptor."""
        self.ended = 0
        """Bytes from connections that have ended."""
        self.floor = memory
        """The memory in use when nothing waited."""
        self.counts = False
        """Whether the meters were reset since the process began to grow."""
        self.next_at = 0
        """The growth, or size, at which connections are closed again: messages received before take time to be read."""
        self._ask = ask
        self._is_asked = False
        self._is_empty: bool | None = None  # written by the loop's thread

    def ask(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            with suppress(RuntimeError):  # the loop is closed
                self._ask(self._answered)

    def _answered(self, is_empty: bool) -> None:
        self._is_empty = is_empty

    def was_emptied(self) -> bool:
        """Return whether the loop has answered, since it was last asked, that nothing waits."""
        answer, self._is_empty = self._is_empty, None
        if answer is not None:
            self._is_asked = False
        return bool(answer)

    def reset(self, memory: int) -> None:
        self.floor, self.ended, self.next_at = memory, 0, 0
        for meter in self.meters.values():
            meter.reset()

    def read(self) -> int:
        """Read all meters, and return the bytes in all."""
        return self.ended + sum(meter.read() for meter in self.meters.values())

    def end_most(self, least: int) -> Iterator[Meter]:
        """Close the connections that sent at least half as much as the largest sender, and at least `least` bytes."""
        most = max((meter.latest for meter in self.meters.values()), default=0)
        for descriptor, meter in list(self.meters.items()):
            if meter.latest >= max(most // 2, least):
                yield self.end(descriptor)

    def end(self, descriptor: int) -> Meter:
        meter = self.meters[descriptor]
        self.forget(descriptor)
        meter.end()
        return meter

    def forget(self, descriptor: int) -> None:
        if (meter := self.meters.pop(descriptor, None)) is not None:
            self.ended += meter.latest


class ReceiveLimit:
    """
    The incoming messages of the bound sockets of a context. Only touched from the gate's thread.

    Args:
        largest: the largest message, in bytes.
        memory: returns the memory of the process, in bytes.

    """

    def __init__(self, largest: int = 0, *, memory: Callable[[], int] = memory_in_use) -> None:
        self.closed = 0
        """The number of connections closed because they sent more than could be read."""
        self.is_over = False
        """Whether too many messages wait: no connection is accepted then."""
        self._most = max(MAX_WAITING, 4 * largest)
        self._memory = memory
        self._log = RecurringLog(logger)
        self._sockets: dict[Hashable, _Incoming] = {}
        self._subscriptions: set[Hashable] = set()
        """The sockets that receive subscriptions only."""
        self._must_look_closely = False
        self._pause = LOOK_EVERY
        self._latest = 0
        """The memory in use at the last check."""
        self._look_at = 0.0
        # Reports data on connections for subscriptions, which is rare.
        self._epoll = select.epoll() if Meter.POSSIBLE else None

    @property
    def descriptor(self) -> int | None:
        """A descriptor to poll for arriving subscriptions; None where that is impossible."""
        return None if self._epoll is None else self._epoll.fileno()

    @property
    def pause(self) -> float | None:
        """Seconds until the next check; None if there is nothing to check."""
        if not any(incoming.meters for incoming in self._sockets.values()):
            return None
        return self._pause

    def add(self, socket: Hashable, ask: Ask, *, subscriptions: bool) -> None:
        """Watch a bound socket; `subscriptions`: nothing else arrives over its connections."""
        self._sockets[socket] = _Incoming(ask, self._memory())
        if subscriptions:
            self._subscriptions.add(socket)

    def remove(self, socket: Hashable) -> None:
        """Stop watching a socket."""
        self._sockets.pop(socket, None)
        self._subscriptions.discard(socket)

    def accepted(self, socket: Hashable, descriptor: int) -> None:
        """Record a connection to a socket."""
        if self._epoll is not None and (incoming := self._sockets.get(socket)) is not None:
            with suppress(OSError):
                incoming.meters[descriptor] = Meter(descriptor)
                if socket in self._subscriptions:
                    self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def disconnected(self, socket: Hashable, descriptor: int) -> None:
        """Record that a connection has ended."""
        if (incoming := self._sockets.get(socket)) is not None:
            incoming.forget(descriptor)

    def close(self) -> None:
        """Stop watching all sockets."""
        if self._epoll is not None:
            self._epoll.close()
        self._sockets.clear()

    def look(self, now: float) -> None:
        """Check, if it is due, whether too many messages wait."""
        if now < self._look_at:
            return
        memory = self._memory() or self._latest  # while no descriptor is free, it cannot be read
        self._must_look_closely = self.is_over = False
        for socket, incoming in self._sockets.items():
            if incoming.was_emptied():
                incoming.reset(memory)
                incoming.counts = False
            if socket in self._subscriptions:
                self._look_at_subscriptions(incoming, memory)
            else:
                self._look_at_messages(incoming, memory)
        self._pause = self._next_pause(grows=memory > self._latest)
        self._latest = memory
        self._look_at = now + self._pause

    def _next_pause(self, *, grows: bool) -> float:
        if self._must_look_closely:
            return LOOK_CLOSELY
        return LOOK_EVERY if grows else min(2 * max(self._pause, LOOK_EVERY / 2), LOOK_SELDOM)

    def woken(self, now: float) -> None:
        """Check at once: subscriptions have arrived."""
        if self._epoll is not None:
            self._epoll.poll(0)  # take the report: each is given once
        self._look_at = now
        self.look(now)

    def _look_at_messages(self, incoming: _Incoming, memory: int) -> None:
        incoming.floor = min(incoming.floor, memory)
        growth = memory - incoming.floor
        if growth < STEP:
            return
        self._must_look_closely = True
        incoming.ask()
        if not incoming.counts:
            incoming.counts = True
            incoming.reset(incoming.floor)
            return
        sent = incoming.read()
        if growth > self._most:
            self.is_over = True
            if sent >= LEAST_SENT and growth > incoming.next_at:
                incoming.next_at = growth + STEP
                self._report_largest_senders(growth, list(incoming.end_most(LEAST_OF_ONE)))

    def _look_at_subscriptions(self, incoming: _Incoming, memory: int) -> None:
        if (size := incoming.read()) < FEW_TOPICS:
            incoming.floor = memory
            return
        self._must_look_closely = True
        incoming.ask()
        for descriptor, meter in list(incoming.meters.items()):
            if meter.latest > MAX_TOPICS:
                self._report_largest_subscribers([incoming.end(descriptor)])
        growth = memory - incoming.floor
        if size > MANY_TOPICS or (size > LEAST_TOPICS and growth > TOPICS_GROWTH):
            self.is_over = True
            if size > incoming.next_at:
                incoming.next_at = size + LEAST_TOPICS
                self._report_largest_subscribers(list(incoming.end_most(FEW_TOPICS)))

    def _report_largest_senders(self, growth: int, ended: list[Meter]) -> None:
        for meter in ended:
            self.closed += 1
            self._log.log(
                "messages", logging.WARNING,
                "Messages wait to be read, and take %d MiB: the connection of %s, which sent %d MiB, was closed (%d so "
                "far), and no connection is accepted until they are read. If lightbus.watchdog names code that blocks "
                "the event loop, that is the reason",
                growth // MIB, meter.peer, meter.latest // MIB, self.closed, changes=False,
            )  # fmt: skip

    def _report_largest_subscribers(self, ended: list[Meter]) -> None:
        for meter in ended:
            self.closed += 1
            self._log.log(
                "topics", logging.WARNING,
                "The connection of %s was closed: it sent %d bytes of subscriptions faster than they could be read "
                "(%d so far). No listener needs as many",
                meter.peer, meter.latest, self.closed, changes=False,
            )  # fmt: skip
