"""The sync channel: a call from a plain thread, without a switch to another thread.

A blocking call takes a DEALER to the chosen peer out of a pool, uses it in its own thread for one round trip,
and puts it back. All decisions are made by the same `OutboundRequest` as on an event loop.
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
from .interrupts import interruptible
from .ports.transport import BlockingSocket
from .recurring import RecurringLog
from .rpc.request import UNANSWERED, NeverSent, OutboundRequest, carry_out
from .wire import envelope
from .wire.envelope import AnyMessage, Cancel

__all__ = ["BlockingChannel", "forbid_in_loop", "is_exiting", "note_exit", "wait_at_exit"]

logger = logging.getLogger("lightbus.transport")

MAX_SOCKETS = 256
"""The most blocking calls in flight at a time, over all threads: each has a socket, and sockets are limited."""

DESCRIPTORS_EACH = 4
"""The most file descriptors that a socket takes: where fewer are free, calls wait for an existing socket."""

LOOK_EVERY = 0.2
"""Seconds after which a thread that waits for a socket checks again for free file descriptors."""


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
    """Block a daemon thread for ever while the interpreter shuts down, which kills it silently; else return at once."""
    if _is_exiting and threading.current_thread().daemon:
        threading.Event().wait()


_is_exiting = False


class _PeerPool:
    """
    The sockets to one peer, and the calls that it was chosen for.

    Needs no lock: each change of its list and its sets, and of the map of all pools, is a single atomic step of the
    interpreter.
    """

    __slots__ = ("busy", "idle", "is_lost", "peer", "unsent")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.idle: list[BlockingSocket] = []
        self.busy: set[OutboundRequest] = set()
        """Requests that chose this peer and have no outcome yet."""
        self.unsent: set[OutboundRequest] = set()
        """The busy requests that have not been sent yet."""
        self.is_lost = False


def _pool_of_lost(peer: Peer) -> _PeerPool:
    """Return an empty pool for a peer that left after it was chosen."""
    pool = _PeerPool(peer)
    pool.is_lost = True
    return pool


class _InFlight(Mapping[str, int]):
    """How many calls of this process each peer has in progress."""

    def __init__(self, pools: Mapping[str, _PeerPool]) -> None:
        self._pools = pools

    def __getitem__(self, instance: str) -> int:
        return len(self._pools[instance].busy)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)


class BlockingChannel:
    """
    The sockets for blocking calls, a pool for each peer. Any thread may use them, each socket one thread at a time.

    The socket put back last is taken first: its connection is the warmest, and the surplus of a burst becomes idle. A
    call takes a lock only where it makes a socket or waits for one.
    """

    def __init__(self, engine: Engine) -> None:
        self.late_replies = 0
        self.surplus = 0
        """Number of idle sockets closed because they received unrequested messages, while the process's memory grew."""
        self._engine = engine
        self._log = RecurringLog(logger)
        self._pools: dict[str, _PeerPool] = {}
        self._in_flight = _InFlight(self._pools)
        self._on_sent: list[tuple[_PeerPool, Callable[[], None]]] = []
        self._ids = itertools.count(1)
        self._room = threading.Condition()  # guards the attributes below, and changes of `_on_sent`
        self._sockets = 0
        self._waiting_for_room = 0
        self._closed = False
        self._all_closed: Future[None] = Future()
        engine.channels.add(self)
        engine.transport.when_grown(self._close_surplus)

    def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off and return its outcome. Raises what went wrong."""
        try:
            # The first attempt of `carry_out`, without its coroutine: the first peer nearly always answers.
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
        """Return when a peer that advertises `api` is up. Raises a NotReachable."""
        try:
            self._engine.resolve_blocking(api, deadline)
        except Exception:
            wait_at_exit()
            raise

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Close the idle sockets to a peer that left. Threads with a busy socket notice by themselves."""
        pool = self._pools.pop(peer.instance, None)
        if pool is not None:
            pool.is_lost = True
            self._close_idle(pool)

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call back once no call that chose this instance is still unsent."""
        pool = self._pools.get(instance)
        if pool is None or not pool.unsent:
            callback()
            return
        with self._room:
            self._on_sent.append((pool, callback))
        self._wake_waiters()  # the last one may have been sent just now

    def awaits(self, instance: str) -> bool:
        """Return whether a call waits for an answer of this instance."""
        pool = self._pools.get(instance)
        return pool is not None and bool(pool.busy)

    def close(self) -> Future[None]:
        """Close the idle sockets, make calls in progress raise, and return a future that is done once all closed."""
        self._closed = True
        for pool in list(self._pools.values()):
            self._close_idle(pool)
        with self._room:  # a thread that makes a socket has either seen `_closed`, or is counted in `_sockets`
            self._room.notify_all()
            self._note_all_closed()
        return self._all_closed

    # One call. `carry_out`, which both channels share, awaits these coroutines: here they block, and never suspend.

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next; the request counts as busy there until `ask` has ended."""
        while True:
            snapshot = self._engine.snapshot
            peer = outgoing.pick(snapshot, self._in_flight, resolved=resolved)
            if peer is None:
                return None
            instance = peer.announcement.instance
            pool = self._pools.get(instance) or self._pools.setdefault(instance, _PeerPool(peer))
            pool.busy.add(outgoing)
            pool.unsent.add(outgoing)
            if self._engine.snapshot is snapshot:
                return peer
            # The peer may be leaving, and `when_sent` may have reported nothing unsent before this was recorded.
            pool.busy.discard(outgoing)
            self._remove_unsent(pool, outgoing)

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return when a peer that advertises the API is up."""
        self._engine.resolve_blocking(
            outgoing.api, outgoing.deadline, to_call=outgoing.is_call, leaving=outgoing.leaving
        )

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        """Send the frame through a connection of the pool, and wait in this thread for the reply."""
        return self._ask(peer, outgoing)

    def _ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        pool = self._pools.get(peer.announcement.instance) or _pool_of_lost(peer)
        dealer: BlockingSocket | None = None
        call_id = next(self._ids)
        try:
            try:  # faster than `suppress`: every call runs this
                if not self._closed:
                    dealer = pool.idle.pop()
            except IndexError:
                pass
            while dealer is None:
                dealer = interruptible(self._wait_or_make, pool, outgoing)
            frame = outgoing.frame(peer, call_id)
            while not dealer.send(frame):
                dealer = self._one_to_send_with(dealer, pool, outgoing)
            pool.unsent.discard(outgoing)
            if self._on_sent:
                self._wake_waiters()
            while True:
                if (reply_frame := dealer.receive(outgoing.deadline.left())) is not None:
                    reply_id, reply = envelope.decode(reply_frame)
                    if reply_id == call_id:
                        return reply
                    self.late_replies += 1  # the reply to an earlier call of this socket, which was given up
                # Checked after late replies, too: a peer that keeps sending them cannot hold a call past its deadline.
                self._check(pool, outgoing, sent=True)
        except ProtocolError as error:
            raise ProtocolError(
                f"{peer.announcement} answered {outgoing} with an unreadable message: {error}"
            ) from error
        except (LightbusTimeout, LightbusShutdownInProgress, KeyboardInterrupt, SystemExit):
            # Also while sending: Python raises KeyboardInterrupt only after libzmq's call, when the frame is sent.
            if dealer is not None and dealer.was_used:
                dealer.send(envelope.encode(Cancel(), call_id))
            raise
        finally:
            if outgoing in pool.unsent:
                self._remove_unsent(pool, outgoing)
            pool.busy.discard(outgoing)
            if dealer is not None and dealer.was_used:
                pool.idle.append(dealer)
                if self._waiting_for_room or pool.is_lost or self._closed:
                    self._maintain_idle(pool)
            elif dealer is not None:
                self._drop(dealer)

    def _one_to_send_with(self, dealer: BlockingSocket, pool: _PeerPool, outgoing: OutboundRequest) -> BlockingSocket:
        """Return the socket to try next where one could not send, mostly the same. Raises where the call has ended."""
        self._check(pool, outgoing, sent=False)
        if dealer.was_used:
            # The connection may be broken for good, as by a reply over the limit: see `BlockingSocket.was_used`.
            connected = self._connect(pool.peer)
            dealer.close()
            return connected
        return self._connected_or_new(pool, dealer) if pool.idle else dealer

    def _check(self, pool: _PeerPool, outgoing: OutboundRequest, *, sent: bool) -> None:
        peer = pool.peer
        if self._closed:
            raise LightbusShutdownInProgress(f"The bus was closed before {outgoing} was answered.")
        if outgoing.deadline.passed():
            raise outgoing.timed_out(peer, sent=sent)
        # A peer that is only missing from the snapshot is not lost: the engine may have moved, and know no peer yet.
        if pool.is_lost and not self._engine.snapshot.is_up(peer.instance):
            raise outgoing.lost(peer, "went away") if sent else NeverSent()

    def _maintain_idle(self, pool: _PeerPool) -> None:
        """Close the idle sockets if the peer is lost or the channel closed; else notify a thread that waits for one."""
        if pool.is_lost or self._closed:
            self._close_idle(pool)
        else:
            with self._room:
                self._room.notify()

    # Sent or not

    def _remove_unsent(self, pool: _PeerPool, outgoing: OutboundRequest) -> None:
        """Record that a call is not unsent any more: it was sent, or never will be."""
        pool.unsent.discard(outgoing)
        if self._on_sent:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        with self._room:
            ready = [callback for pool, callback in self._on_sent if not pool.unsent]
            self._on_sent = [entry for entry in self._on_sent if entry[0].unsent]
        for callback in ready:
            callback()

    # The pools

    def _wait_or_make(self, pool: _PeerPool, outgoing: OutboundRequest) -> BlockingSocket | None:
        """Return an idle socket or a new one; None where no new one could be made at the moment."""
        with self._room:
            self._waiting_for_room += 1  # first: from now on a thread that puts a socket back notifies
            try:
                if (idle := self._wait_for_socket(pool, outgoing)) is not None:
                    return idle
            finally:
                self._waiting_for_room -= 1
            self._sockets += 1
        try:
            return self._connect(pool.peer)
        except BaseException as error:
            with self._room:
                self._sockets -= 1
            self._note_all_closed()
            with self._room:
                if not isinstance(error, TransportError) or not self._sockets or outgoing.deadline.passed():
                    raise
                self._room.wait(LOOK_EVERY)  # other threads took the last free file descriptors just now
            return None

    def _connect(self, peer: Peer) -> BlockingSocket:
        fingerprint = peer.announcement.fingerprint
        return self._engine.transport.blocking_dealer(peer.endpoint, fingerprint=fingerprint)

    def _connected_or_new(self, pool: _PeerPool, dealer: BlockingSocket) -> BlockingSocket:
        """Return an idle socket instead of one not connected yet: the peer may accept no further connections."""
        try:
            connected = pool.idle.pop()
        except IndexError:  # another thread was quicker
            return dealer
        self._drop(dealer)
        return connected

    def _drop(self, dealer: BlockingSocket) -> None:
        dealer.close()
        with self._room:
            self._sockets -= 1
            self._room.notify()
        self._note_all_closed()

    def _wait_for_socket(self, pool: _PeerPool, outgoing: OutboundRequest) -> BlockingSocket | None:
        """Wait for an idle socket and return it; None as soon as a new one may be made. Called with the lock held."""
        while True:
            if self._closed:
                raise LightbusShutdownInProgress(f"The bus was closed before {outgoing} was sent.")
            with contextlib.suppress(IndexError):
                return pool.idle.pop()
            if self._has_room():
                return None
            if outgoing.deadline.passed():
                few = ", and it may have no more open files (ulimit -n)" if self._sockets < MAX_SOCKETS else ""
                raise LightbusTimeout(
                    f"{outgoing} was not sent: {self._sockets} blocking calls of this process are in progress already"
                    f"{few}. Use fewer threads, or call_async."
                )
            self._room.wait(min(outgoing.deadline.left(), LOOK_EVERY))

    def _has_room(self) -> bool:
        """Return whether a new socket may be made; if need be, close an idle one to another peer to make room."""
        if self._sockets < MAX_SOCKETS and (not self._sockets or descriptors_left() >= DESCRIPTORS_EACH):
            return True
        for pool in list(self._pools.values()):
            with contextlib.suppress(IndexError):
                pool.idle.pop().close()
                self._sockets -= 1
                return True
        return False

    def _close_surplus(self) -> None:
        """Close the idle sockets that received unrequested messages. Any thread may call this."""
        for pool in list(self._pools.values()):
            for _ in range(len(pool.idle)):
                try:
                    dealer = pool.idle.pop(0)
                except IndexError:  # all are busy now
                    break
                if dealer.is_empty():
                    pool.idle.append(dealer)
                else:
                    self._drop(dealer)
                    self.surplus += 1
                    self._log.log(
                        "surplus", logging.WARNING,
                        "%s sent an unrequested message over an idle connection, which was closed (%d so far)",
                        pool.peer.announcement, self.surplus, changes=False,
                    )  # fmt: skip
            if pool.is_lost or self._closed:
                self._close_idle(pool)

    def _close_idle(self, pool: _PeerPool) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._drop(pool.idle.pop())

    def _note_all_closed(self) -> None:
        if self._closed and not self._sockets:
            with contextlib.suppress(InvalidStateError):  # another thread was quicker
                self._all_closed.set_result(None)


def _run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run, in this thread, a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("A blocking call awaited something that only an event loop can wait for.")
