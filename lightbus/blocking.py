"""The sync door: a call from a plain thread, without a hop to another one.

A blocking call takes a DEALER to the chosen peer out of a bounded pool, uses it in its own thread for one round trip,
and puts it back. What is decided on the way is decided by the same `OutboundRequest` as on an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from .core.registry import Peer
from .deadline import Deadline
from .engine.engine import Engine
from .exceptions import CannotBlockHere, LightbusShutdownInProgress, LightbusTimeout, ProtocolError
from .ports.transport import BlockingSocket
from .rpc.request import NeverSent, OutboundRequest, carry_out
from .wire import envelope
from .wire.envelope import Cancel, Message

__all__ = ["BlockingChannel", "forbid_in_loop", "is_exiting", "note_exit", "wait_at_exit"]

MAX_LOST = 1024
"""Peers that left of which we know that they did: as many as a burst of calls may still be waiting for."""

MAX_SOCKETS = 256
"""Blocking calls on their way at a time, in all threads. Each has a socket, and a process has a limit of those."""


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


class BlockingChannel:
    """
    The pool of sockets for blocking calls. Any thread may use it; a socket is one thread's at a time.

    The last one put back is taken first: its connection is the warmest, and a burst's surplus falls idle.
    """

    def __init__(self, engine: Engine) -> None:
        self.late_replies = 0
        self._engine = engine
        self._idle: dict[str, list[BlockingSocket]] = {}
        self._busy: Counter[str] = Counter()
        self._unsent: Counter[str] = Counter()
        self._on_sent: list[tuple[str, Callable[[], None]]] = []
        self._lost: dict[str, None] = {}
        self._room = threading.Condition()
        self._sockets = 0
        self._last_id = 0
        self._closed = False
        engine.doors.add(self)

    def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off and return what it came to. Raises what went wrong."""
        try:
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
        with self._room:
            self._lost[peer.instance] = None
            if len(self._lost) > MAX_LOST:
                del self._lost[next(iter(self._lost))]
            for dealer in self._idle.pop(peer.instance, []):
                self._close(dealer)
            self._room.notify_all()

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call back once no call that chose this instance is still unsent."""
        with self._room:
            if self._unsent[instance] > 0:
                self._on_sent.append((instance, callback))
                return
        callback()

    def awaits(self, instance: str) -> bool:
        """Return whether an answer of this instance is waited for."""
        return self._busy.get(instance, 0) > 0

    def close(self) -> None:
        """Close the idle sockets, and wait a moment for the busy ones, whose calls raise now."""
        with self._room:
            self._closed = True
            for dealers in self._idle.values():
                for dealer in dealers:
                    self._close(dealer)
            self._idle.clear()
            self._room.notify_all()
            self._room.wait_for(lambda: self._sockets == 0, timeout=1.0)

    # One call. Coroutines for the loop of both doors: here they block, and never suspend.

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next; from then on it counts as busy, until it has been asked."""
        with self._room:
            peer = outgoing.pick(self._engine.snapshot, self._busy, resolved=resolved)
            if peer is not None:
                self._busy[peer.instance] += 1
                self._unsent[peer.instance] += 1
            return peer

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return when a peer is up that advertises the API."""
        self._engine.resolve_blocking(
            outgoing.api, outgoing.deadline, to_call=outgoing.is_call, leaving=outgoing.leaving
        )

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> Message:
        """Send the frame through a connection of the pool, and wait in this thread for the reply."""
        dealer: BlockingSocket | None = None
        sent = False
        try:
            dealer, call_id = self._take(peer, outgoing)
            frame = outgoing.frame(peer, call_id)
            while not dealer.send(frame):
                self._check(peer, outgoing, sent=False)
                if dealer.was_used:
                    # libzmq never reconnects after a breach of protocol, such as a reply over the limit.
                    broken, dealer = dealer, self._connect(peer)
                    broken.close()
            sent = True
            self._note_sent(peer.instance)
            return self._await_reply(dealer, call_id, peer, outgoing)
        finally:
            if not sent:
                self._note_sent(peer.instance)
            self._put_back(peer.instance, dealer)

    def _await_reply(self, dealer: BlockingSocket, call_id: int, peer: Peer, outgoing: OutboundRequest) -> Message:
        try:
            while True:
                frame = dealer.receive(outgoing.deadline.left())
                if frame is None:
                    self._check(peer, outgoing, sent=True)
                    continue
                reply_id, reply = envelope.decode(frame)
                if reply_id == call_id:
                    return reply
                self.late_replies += 1  # of a call that this socket served before, and that was given up
        except (LightbusTimeout, LightbusShutdownInProgress, KeyboardInterrupt, SystemExit):
            dealer.send(envelope.encode(Cancel(), call_id))
            raise
        except ProtocolError as error:
            raise ProtocolError(
                f"{peer.announcement} answered {outgoing} with something unreadable: {error}"
            ) from error

    def _check(self, peer: Peer, outgoing: OutboundRequest, *, sent: bool) -> None:
        if self._closed:
            raise LightbusShutdownInProgress(f"The bus was closed while {outgoing} was on its way.")
        if outgoing.deadline.passed():
            raise outgoing.timed_out(peer, sent=sent)
        # Who is only missing from the snapshot is not lost: the engine may have moved, and knows nobody yet.
        if peer.instance in self._lost and not self._engine.snapshot.is_up(peer.instance):
            raise outgoing.lost(peer, "went away") if sent else NeverSent()

    # The pool

    def _take(self, peer: Peer, outgoing: OutboundRequest) -> tuple[BlockingSocket, int]:
        with self._room:
            self._last_id += 1
            call_id = self._last_id
            while not (idle := self._idle.get(peer.instance)) and not self._has_room():
                self._wait_for_room(outgoing)
            if self._closed:
                raise LightbusShutdownInProgress(f"The bus was closed before {outgoing} was sent.")
            if idle:
                return idle.pop(), call_id
            self._sockets += 1
        try:
            return self._connect(peer), call_id
        except BaseException:
            with self._room:
                self._sockets -= 1
            raise

    def _connect(self, peer: Peer) -> BlockingSocket:
        fingerprint = peer.announcement.fingerprint
        return self._engine.transport.blocking_dealer(peer.endpoint, fingerprint=fingerprint)

    def _has_room(self) -> bool:
        """Return whether there may be one more socket; an idle one to another peer is closed for it."""
        for dealers in self._idle.values():
            if self._sockets >= MAX_SOCKETS and dealers:
                self._close(dealers.pop())
        return self._closed or self._sockets < MAX_SOCKETS

    def _wait_for_room(self, outgoing: OutboundRequest) -> None:
        if not self._room.wait(outgoing.deadline.left()):
            raise LightbusTimeout(
                f"{outgoing} was not sent: {MAX_SOCKETS} blocking calls of this process are on their way already. "
                "Use fewer threads, or call_async."
            )

    def _put_back(self, instance: str, dealer: BlockingSocket | None) -> None:
        with self._room:
            self._busy[instance] -= 1
            if self._busy[instance] <= 0:
                del self._busy[instance]
            if dealer is None:
                return
            if self._closed or not self._engine.snapshot.is_up(instance):
                self._close(dealer)
            else:
                self._idle.setdefault(instance, []).append(dealer)
            self._room.notify()

    def _close(self, dealer: BlockingSocket) -> None:
        dealer.close()
        self._sockets -= 1

    def _note_sent(self, instance: str) -> None:
        with self._room:
            self._unsent[instance] -= 1
            if self._unsent[instance] > 0:
                return
            del self._unsent[instance]
            ready = [callback for name, callback in self._on_sent if name == instance]
            self._on_sent = [entry for entry in self._on_sent if entry[0] != instance]
        for callback in ready:
            callback()


def _run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends in this thread, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("What blocks a thread awaited something that only an event loop can wait for.")
