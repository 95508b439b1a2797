"""
Bounds messages that arrive faster than they are read: libzmq reads everything, and its queues have no bound.

(`transport._without_own_heartbeats` says why.) While a handler blocks the event loop, or small messages come faster
than they are handled, two gigabytes a second may pile up. A publisher takes fifty times the bytes of a subscription,
and a microsecond for each, so that 20 MiB of them at once take it away for seconds.

So the gate's thread looks. Where the process has grown, or much came over a connection for subscriptions, it asks the
loop whether anything waits to be read. If something does each time, what came over each connection since nothing did is
read off (`meter`), and beyond a bound whoever sent most is disconnected; nobody else gets in until all is read. That
costs a look at the process's memory twenty times a second, five where it does not grow, and a message nothing.
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
Bytes by which the process may grow while messages wait to be read. Where a single message may be larger than a quarter
of it, four such.
"""

STEP = 16 * MIB
"""Bytes by which it grows before the loops are asked whether messages wait."""

LEAST_SENT = 16 * MIB
"""
Bytes that must have arrived, in all, before a peer is disconnected: a handler may be what takes the memory.
The smallest messages take twenty times their bytes.
"""

TOPICS_GROWTH, LEAST_TOPICS = 64 * MIB, 1 * MIB
"""
Bytes by which the process may grow while so many of subscriptions wait: it hardly does where their topics are the same.
"""

FEW_TOPICS, MANY_TOPICS = 64 * 1024, 8 * MAX_TOPICS
"""Bytes of subscriptions that are taken in without a look; and that may wait in all, whatever they are."""

OF_ONE = 256 * 1024
"""Bytes that one connection must have sent to be ended with those that sent most."""

LOOK_EVERY, LOOK_CLOSELY, LOOK_SELDOM = 0.05, 0.01, 0.2
"""
Seconds between two looks; the second while messages wait and the process has grown; up to the last while it does not
grow at all: of an idle process each look costs more than all else that it does meanwhile.
"""

Ask: TypeAlias = Callable[[Callable[[bool], None]], None]
"""
Asks the loop of a socket whether nothing waits to be read, and calls the given function there with the answer.
"""


def memory_in_use() -> int:
    """Return the bytes of memory that this process takes; 0 where the system does not say."""
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
    """What came over the connections of one bound socket since nothing waited to be read."""

    def __init__(self, ask: Ask, memory: int) -> None:
        self.meters: dict[int, Meter] = {}
        """By descriptor."""
        self.ended = 0
        """Bytes that came over connections that are no more."""
        self.floor = memory
        """The memory in use when nothing waited."""
        self.counts = False
        """Whether the meters count from when the process had not grown yet."""
        self.next_at = 0
        """How much more must wait before the next ones are ended: what came before takes its time to be read."""
        self._ask = ask
        self._is_asked = False
        self._is_empty: bool | None = None  # written by the loop's thread

    def ask(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._ask(self._answered)

    def _answered(self, is_empty: bool) -> None:
        self._is_empty = is_empty

    def was_emptied(self) -> bool:
        """Return whether the loop has reported, since it was asked last, that nothing waits."""
        answer, self._is_empty = self._is_empty, None
        if answer is not None:
            self._is_asked = False
        return bool(answer)

    def reset(self, memory: int) -> None:
        self.floor, self.ended, self.next_at = memory, 0, 0
        for meter in self.meters.values():
            meter.reset()

    def read(self) -> int:
        """Return the bytes that have come in all."""
        return self.ended + sum(meter.read() for meter in self.meters.values())

    def end_most(self, least: int) -> Iterator[Meter]:
        """End the connection over which most has come, and those over which half as much has, and at least so much."""
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
        largest: bytes that a message may have.
        memory: returns the bytes that the process takes.

    """

    def __init__(self, largest: int = 0, *, memory: Callable[[], int] = memory_in_use) -> None:
        self.closed = 0
        """How many connections were closed since more came over them than was taken in."""
        self.is_over = False
        """Whether more waits than may: no connection is accepted."""
        self._most = max(MAX_WAITING, 4 * largest)
        self._memory = memory
        self._log = RecurringLog(logger)
        self._sockets: dict[Hashable, _Incoming] = {}
        self._subscriptions: set[Hashable] = set()
        """Which of the sockets take subscriptions only."""
        self._is_close = False
        self._pause = LOOK_EVERY
        self._latest = 0
        """The memory in use at the last look."""
        self._look_at = 0.0
        # Tells of whatever comes over a connection for subscriptions, which is seldom.
        self._epoll = select.epoll() if Meter.POSSIBLE else None

    @property
    def descriptor(self) -> int | None:
        """What can be polled for subscriptions that come; None where that cannot be."""
        return None if self._epoll is None else self._epoll.fileno()

    @property
    def pause(self) -> float | None:
        """Seconds until the next look; None: there is nothing to look at."""
        if not any(incoming.meters for incoming in self._sockets.values()):
            return None
        return self._pause

    def add(self, socket: Hashable, ask: Ask, *, subscriptions: bool) -> None:
        """Watch a bound socket; with `subscriptions` nothing else arrives over its connections."""
        self._sockets[socket] = _Incoming(ask, self._memory())
        if subscriptions:
            self._subscriptions.add(socket)

    def remove(self, socket: Hashable) -> None:
        """Look after a socket no more."""
        self._sockets.pop(socket, None)
        self._subscriptions.discard(socket)

    def accepted(self, socket: Hashable, descriptor: int) -> None:
        """Note a connection to a socket."""
        if self._epoll is not None and (incoming := self._sockets.get(socket)) is not None:
            with suppress(OSError):
                incoming.meters[descriptor] = Meter(descriptor)
                if socket in self._subscriptions:
                    self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def disconnected(self, socket: Hashable, descriptor: int) -> None:
        """Note that a connection has ended."""
        if (incoming := self._sockets.get(socket)) is not None:
            incoming.forget(descriptor)

    def close(self) -> None:
        """Look no more."""
        if self._epoll is not None:
            self._epoll.close()
        self._sockets.clear()

    def look(self, now: float) -> None:
        """Look, if it is time to, whether more waits than may."""
        if now < self._look_at:
            return
        memory = self._memory()
        self._is_close = self.is_over = False
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
        if self._is_close:
            return LOOK_CLOSELY
        return LOOK_EVERY if grows else min(2 * max(self._pause, LOOK_EVERY / 2), LOOK_SELDOM)

    def woken(self, now: float) -> None:
        """Look at once: subscriptions have come."""
        if self._epoll is not None:
            self._epoll.poll(0)  # told once
        self._look_at = now
        self.look(now)

    def _look_at_messages(self, incoming: _Incoming, memory: int) -> None:
        incoming.floor = min(incoming.floor, memory)
        growth = memory - incoming.floor
        if growth < STEP:
            return
        self._is_close = True
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
                self._report_largest_senders(growth, list(incoming.end_most(OF_ONE)))

    def _look_at_subscriptions(self, incoming: _Incoming, memory: int) -> None:
        if (size := incoming.read()) < FEW_TOPICS:
            incoming.floor = memory
            return
        self._is_close = True
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
                "The connection of %s was closed: it sent %d bytes of subscriptions faster than they could be taken in "
                "(%d so far). No listener has as many",
                meter.peer, meter.latest, self.closed, changes=False,
            )  # fmt: skip
