"""The sync channel: a call from a plain thread, without a hop to another one.

A blocking call takes a DEALER to the chosen peer out of a bounded pool, uses it in its own thread for one round trip,
and puts it back. What is decided on the way is decided by the same `OutboundRequest` as on an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any

from .adapters.host.descriptors import descriptors_left
from .core.registry import Peer
from .deadline import Deadline
from .engine.engine import Engine
from .exceptions import CannotBlockHere, LightbusShutdownInProgress, LightbusTimeout, ProtocolError, TransportError
from .ports.transport import BlockingSocket
from .recurring import RecurringLog
from .rpc.request import UNANSWERED, NeverSent, OutboundRequest, carry_out
from .wire import envelope
from .wire.envelope import AnyMessage, Cancel

__all__ = ["BlockingChannel", "forbid_in_loop", "is_exiting", "note_exit", "wait_at_exit"]

logger = logging.getLogger("lightbus.transport")

MAX_SOCKETS = 256
"""Blocking calls on their way at a time, in all threads. Each has a socket, and a process has a limit of those."""

DESCRIPTORS_EACH = 4
"""Open files that a socket takes, at most: where fewer are left, calls wait for a socket that is there already."""

LOOK_EVERY = 0.2
"""Seconds after which a thread that waits for a socket checks again for free descriptors."""


def forbid_in_loop(what: str, twin: str) -> None:
    """Raise CannotBlockHere inside a running event loop, and name what to await instead."""
    if asyncio._get_running_loop() is not None:
        raise CannotBlockHere(
            f"{what} would block the running event loop, and with it whatever the loop serves. Write: await {twin}"
        )


def note_exit() -> None:
    """Record that the interpreter is shutting down."""
    global _is_exiting
    _is_exiting = True


def is_exiting() -> bool:
    """Return whether the interpreter is shutting down."""
    return _is_exiting


def wait_at_exit() -> None:
    """Return at once, or, in a daemon thread while the interpreter shuts down, never: it is killed without a word."""
    if _is_exiting and threading.current_thread().daemon:
        threading.Event().wait()


_is_exiting = False


class _Line:
    """
    What there is of one peer: idle sockets, and the calls that are with it.

    What is done to its list and its sets, and to the map of all lines, is one step of the interpreter's each, and needs
    no lock.
    """

    __slots__ = ("busy", "idle", "is_lost", "peer", "unsent")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.idle: list[BlockingSocket] = []
        self.busy: set[OutboundRequest] = set()
        """Those that chose this peer and have not come to anything yet."""
        self.unsent: set[OutboundRequest] = set()
        """Those of them that have not left yet."""
        self.is_lost = False


def _lost(peer: Peer) -> _Line:
    """Return what there is of a peer that has left since it was chosen."""
    line = _Line(peer)
    line.is_lost = True
    return line


class _InFlight(Mapping[str, int]):
    """How many calls each peer has of us."""

    def __init__(self, lines: Mapping[str, _Line]) -> None:
        self._lines = lines

    def __getitem__(self, instance: str) -> int:
        return len(self._lines[instance].busy)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


class BlockingChannel:
    """
    The pool of sockets for blocking calls. Any thread may use it; a socket is one thread's at a time.

    The last one put back is taken first: its connection is the warmest, and a burst's surplus falls idle. A call takes
    no lock, but where a socket is made or waited for.
    """

    def __init__(self, engine: Engine) -> None:
        self.late_replies = 0
        self.surplus = 0
        """Idle sockets that were closed because of unrequested messages, while the process grew."""
        self._engine = engine
        self._log = RecurringLog(logger)
        self._lines: dict[str, _Line] = {}
        self._in_flight = _InFlight(self._lines)
        self._on_sent: list[tuple[_Line, Callable[[], None]]] = []
        self._ids = itertools.count(1)
        self._room = threading.Condition()  # over what follows, and over changes of `_on_sent`
        self._sockets = 0
        self._waiting_for_room = 0
        self._closed = False
        self._all_closed: Future[None] = Future()
        engine.channels.add(self)
        engine.transport.when_grown(self._close_surplus)

    def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off and return what it came to. Raises what went wrong."""
        try:
            # The first peer of `carry_out` without its coroutine: nearly always it answers, and there is no second one.
            if outgoing.api in self._engine.wanted and (peer := self.pick(outgoing)) is not None:
                try:
                    return outgoing.outcome(self._ask(peer, outgoing), peer)
                except UNANSWERED as error:
                    outgoing.not_answered(peer, error)
            return _run_blocking(carry_out(self, outgoing, self._engine.wanted))
        except Exception:
            wait_at_exit()
            raise

    def resolve(self, api: str, deadline: Deadline) -> None:
        """Return when a peer that advertises `api` is up. Raises what NotReachable there is."""
        try:
            self._engine.resolve_blocking(api, deadline)
        except Exception:
            wait_at_exit()
            raise

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Close the idle sockets to a peer that left. Busy ones notice by themselves."""
        line = self._lines.pop(peer.instance, None)
        if line is not None:
            line.is_lost = True
            self._close_idle(line)

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call back once no call that chose this instance is still unsent."""
        line = self._lines.get(instance)
        if line is None or not line.unsent:
            callback()
            return
        with self._room:
            self._on_sent.append((line, callback))
        self._wake_waiters()  # the last one may have been sent just now

    def awaits(self, instance: str) -> bool:
        """Return whether an answer of this instance is waited for."""
        line = self._lines.get(instance)
        return line is not None and bool(line.busy)

    def close(self) -> Future[None]:
        """Close the idle sockets, and have busy ones raise; return what is done once all are closed."""
        self._closed = True
        for line in list(self._lines.values()):
            self._close_idle(line)
        with self._room:  # who makes a socket has seen that it is closed, or is counted
            self._room.notify_all()
            self._note_all_closed()
        return self._all_closed

    # One call. Coroutines for the loop of both channels: here they block, and never suspend.

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next; from then on it counts as busy, until it has been asked."""
        while True:
            snapshot = self._engine.snapshot
            peer = outgoing.pick(snapshot, self._in_flight, resolved=resolved)
            if peer is None:
                return None
            instance = peer.announcement.instance
            line = self._lines.get(instance) or self._lines.setdefault(instance, _Line(peer))
            line.busy.add(outgoing)
            line.unsent.add(outgoing)
            if self._engine.snapshot is snapshot:
                return peer
            # It may be leaving, and have been told that nothing is unsent before this was noted.
            line.busy.discard(outgoing)
            self._is_sent(line, outgoing)

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return when a peer is up that advertises the API."""
        self._engine.resolve_blocking(
            outgoing.api, outgoing.deadline, to_call=outgoing.is_call, leaving=outgoing.leaving
        )

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        """Send the frame through a connection of the pool, and wait in this thread for the reply."""
        return self._ask(peer, outgoing)

    def _ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        line = self._lines.get(peer.announcement.instance) or _lost(peer)
        dealer: BlockingSocket | None = None
        call_id = next(self._ids)
        try:
            try:  # and no `suppress`: each call comes here
                if not self._closed:
                    dealer = line.idle.pop()
            except IndexError:
                pass
            while dealer is None:
                dealer = self._wait_or_make(line, outgoing)
            frame = outgoing.frame(peer, call_id)
            while not dealer.send(frame):
                dealer = self._one_to_send_with(dealer, line, outgoing)
            line.unsent.discard(outgoing)
            if self._on_sent:
                self._wake_waiters()
            while True:
                if (reply_frame := dealer.receive(outgoing.deadline.left())) is not None:
                    reply_id, reply = envelope.decode(reply_frame)
                    if reply_id == call_id:
                        return reply
                    self.late_replies += 1  # of a call that this socket served before, and that was given up
                # Also then: who sends such without end keeps nobody beyond his time.
                self._check(line, outgoing, sent=True)
        except ProtocolError as error:
            raise ProtocolError(
                f"{peer.announcement} answered {outgoing} with something unreadable: {error}"
            ) from error
        except (LightbusTimeout, LightbusShutdownInProgress, KeyboardInterrupt, SystemExit):
            # Also where it was being sent: Control-C is noticed behind libzmq's own call, when the frame has left.
            if dealer is not None and dealer.was_used:
                dealer.send(envelope.encode(Cancel(), call_id))
            raise
        finally:
            if outgoing in line.unsent:
                self._is_sent(line, outgoing)
            line.busy.discard(outgoing)
            if dealer is not None and dealer.was_used:
                line.idle.append(dealer)
                if self._waiting_for_room or line.is_lost or self._closed:
                    self._maintain_idle(line)
            elif dealer is not None:
                self._drop(dealer)

    def _one_to_send_with(self, dealer: BlockingSocket, line: _Line, outgoing: OutboundRequest) -> BlockingSocket:
        """Return what to try next where a socket could not send: mostly the same again. Raises where it is over."""
        self._check(line, outgoing, sent=False)
        if dealer.was_used:
            # It may have broken for good, as by a reply over the limit: see `BlockingSocket.was_used`.
            connected = self._connect(line.peer)
            dealer.close()
            return connected
        return self._connected_or_new(line, dealer) if line.idle else dealer

    def _check(self, line: _Line, outgoing: OutboundRequest, *, sent: bool) -> None:
        peer = line.peer
        if self._closed:
            raise LightbusShutdownInProgress(f"The bus was closed while {outgoing} was on its way.")
        if outgoing.deadline.passed():
            raise outgoing.timed_out(peer, sent=sent)
        # Who is only missing from the snapshot is not lost: the engine may have moved, and knows nobody yet.
        if line.is_lost and not self._engine.snapshot.is_up(peer.instance):
            raise outgoing.lost(peer, "went away") if sent else NeverSent()

    def _maintain_idle(self, line: _Line) -> None:
        """Do what a socket that was put back may call for."""
        if line.is_lost or self._closed:
            self._close_idle(line)
        else:
            with self._room:
                self._room.notify()

    # What is sent

    def _is_sent(self, line: _Line, outgoing: OutboundRequest) -> None:
        """Note that a call has left, or never will."""
        line.unsent.discard(outgoing)
        if self._on_sent:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        with self._room:
            ready = [callback for line, callback in self._on_sent if not line.unsent]
            self._on_sent = [entry for entry in self._on_sent if entry[0].unsent]
        for callback in ready:
            callback()

    # The pool

    def _wait_or_make(self, line: _Line, outgoing: OutboundRequest) -> BlockingSocket | None:
        """Return an idle socket, or one more; None where it turned out that there can be no further one now."""
        with self._room:
            self._waiting_for_room += 1  # first: who puts a socket back from now on says so
            try:
                if (idle := self._wait_for_socket(line, outgoing)) is not None:
                    return idle
            finally:
                self._waiting_for_room -= 1
            self._sockets += 1
        try:
            return self._connect(line.peer)
        except BaseException as error:
            with self._room:
                self._sockets -= 1
            self._note_all_closed()
            with self._room:
                if not isinstance(error, TransportError) or not self._sockets or outgoing.deadline.passed():
                    raise
                self._room.wait(LOOK_EVERY)  # others took the last open files just now
            return None

    def _connect(self, peer: Peer) -> BlockingSocket:
        fingerprint = peer.announcement.fingerprint
        return self._engine.transport.blocking_dealer(peer.endpoint, fingerprint=fingerprint)

    def _connected_or_new(self, line: _Line, dealer: BlockingSocket) -> BlockingSocket:
        """Return an idle socket in place of one that has no connection yet: its peer may take no further ones."""
        try:
            standing = line.idle.pop()
        except IndexError:  # another thread was quicker
            return dealer
        self._drop(dealer)
        return standing

    def _drop(self, dealer: BlockingSocket) -> None:
        dealer.close()
        with self._room:
            self._sockets -= 1
            self._room.notify()
        self._note_all_closed()

    def _wait_for_socket(self, line: _Line, outgoing: OutboundRequest) -> BlockingSocket | None:
        """Return an idle socket; None where there may be one more. Under the lock."""
        while True:
            if self._closed:
                raise LightbusShutdownInProgress(f"The bus was closed before {outgoing} was sent.")
            with contextlib.suppress(IndexError):
                return line.idle.pop()
            if self._has_room():
                return None
            if outgoing.deadline.passed():
                few = ", and it may have no more open files (ulimit -n)" if self._sockets < MAX_SOCKETS else ""
                raise LightbusTimeout(
                    f"{outgoing} was not sent: {self._sockets} blocking calls of this process are on their way already"
                    f"{few}. Use fewer threads, or call_async."
                )
            self._room.wait(min(outgoing.deadline.left(), LOOK_EVERY))

    def _has_room(self) -> bool:
        """Return whether there may be one more socket; an idle one to another peer is closed for it."""
        if self._sockets < MAX_SOCKETS and (not self._sockets or descriptors_left() >= DESCRIPTORS_EACH):
            return True
        for line in list(self._lines.values()):
            with contextlib.suppress(IndexError):
                line.idle.pop().close()
                self._sockets -= 1
                return True
        return False

    def _close_surplus(self) -> None:
        """Close the idle sockets that received unrequested messages. From any thread."""
        for line in list(self._lines.values()):
            for _ in range(len(line.idle)):
                try:
                    dealer = line.idle.pop(0)
                except IndexError:  # all are busy now
                    break
                if dealer.is_empty():
                    line.idle.append(dealer)
                else:
                    self._drop(dealer)
                    self.surplus += 1
                    self._log.log(
                        "surplus", logging.WARNING,
                        "%s sent an unrequested message over an idle connection, which was closed (%d so far)",
                        line.peer.announcement, self.surplus, changes=False,
                    )  # fmt: skip
            if line.is_lost or self._closed:
                self._close_idle(line)

    def _close_idle(self, line: _Line) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._drop(line.idle.pop())

    def _note_all_closed(self) -> None:
        if self._closed and not self._sockets:
            with contextlib.suppress(InvalidStateError):  # another thread was quicker
                self._all_closed.set_result(None)


def _run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends in this thread, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("A blocking call awaited something that only an event loop can wait for.")
