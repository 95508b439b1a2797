"""The channel of an event loop: sends requests, awaits the replies, and gives up at the deadline."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ..core.calls import PendingCall, PendingCalls
from ..core.registry import Peer
from ..exceptions import LightbusShutdownInProgress, ProtocolError
from ..ports.transport import DealerSocket
from ..wire import envelope
from ..wire.envelope import AnyMessage, Cancel
from .request import UNANSWERED, NeverSent, OutboundRequest, RequestContext, carry_out

__all__ = ["Caller"]

SWEEP_EVERY = 0.02
"""Seconds between checks of the deadlines of all calls: one timer for all is cheaper than one for each."""


class Caller:
    """
    The channel of one event loop, with a DEALER socket per peer. Only used from that loop.

    Replies are matched to calls by id, so the calls of all tasks share a socket.
    """

    def __init__(self, context: RequestContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending: PendingCalls[tuple[asyncio.Future[AnyMessage], OutboundRequest, Peer]] = PendingCalls()
        self.protocol_errors = 0
        self._context = context
        self._dealers: dict[str, DealerSocket] = {}
        self._sweeping = False
        self._closed = False

    async def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off, and return its outcome. Raises the error that is final."""
        context, peer = self._context, None
        if outgoing.api in context.wanted or outgoing.is_targeted:
            peer = outgoing.pick(context.snapshot, self.pending.in_flight)
        if peer is not None:
            # The first attempt, inlined for speed: usually the only one.
            try:
                call_id, future = self._begin(peer, outgoing)
                try:
                    reply = await future
                except BaseException:
                    self._give_up(call_id)
                    raise
                return outgoing.outcome(reply, peer)
            except UNANSWERED as error:
                outgoing.not_answered(peer, error)
        return await carry_out(self, outgoing, context.wanted)

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next."""
        return outgoing.pick(self._context.snapshot, self.pending.in_flight, resolved=resolved)

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return once a peer is up that advertises the API."""
        await self._context.resolve(outgoing.api, outgoing.deadline, to_call=outgoing.is_call, leaving=outgoing.leaving)

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        """Send the frame as soon as there is a connection, and return the reply."""
        call_id, future = self._begin(peer, outgoing)
        try:
            return await future
        except BaseException:
            self._give_up(call_id)
            raise

    def _begin(self, peer: Peer, outgoing: OutboundRequest) -> tuple[int, asyncio.Future[AnyMessage]]:
        """Send the frame as soon as there is a connection; return the call's id, and the future of its reply."""
        if self._closed:
            raise LightbusShutdownInProgress(f"The bus was closed before {outgoing} was sent.")
        instance = peer.announcement.instance
        dealer = self._dealers.get(instance) or self._connect(peer)
        future: asyncio.Future[AnyMessage] = asyncio.Future(loop=self.loop)  # as `create_future`, without its Python
        call_id = self.pending.add(instance, outgoing.deadline.at, (future, outgoing, peer))
        try:
            frame = outgoing.frame(peer, call_id)
            if not dealer.send(frame):
                self.pending.mark_sent(call_id, sent=False)
                # Must not be sent once the call was given up: its caller was told that it was not executed.
                dealer.send_later(
                    frame, lambda: self.pending.mark_sent(call_id), wanted=lambda: call_id in self.pending
                )
        except BaseException:
            self._give_up(call_id)
            raise
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(SWEEP_EVERY, self._expire)
        return call_id, future

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Fail the requests to a peer that left, and close the connection to it."""
        if (dealer := self._dealers.pop(peer.instance, None)) is not None:
            dealer.close()
        for _, call in self.pending.peer_lost(peer.instance):
            future, outgoing, _ = call.waiter
            if not future.done():
                future.set_exception(outgoing.lost(peer, reason) if call.sent else NeverSent())

    def awaits(self, instance: str) -> bool:
        """Return whether a request to this instance is unanswered. Thread-safe."""
        return self.pending.in_flight.get(instance, 0) > 0

    def close(self) -> None:
        """Close the sockets, and fail all unanswered requests."""
        self._closed = True
        for _, call in self.pending.all():
            future, outgoing, _ = call.waiter
            if not future.done():
                future.set_exception(LightbusShutdownInProgress(f"The bus was closed before {outgoing} was answered."))
        for dealer in self._dealers.values():
            dealer.close()
        self._dealers.clear()

    def abandon(self) -> None:
        """Close the sockets of a loop that is already closed."""
        for dealer in self._dealers.values():
            dealer.abandon()
        self._dealers.clear()

    def _connect(self, peer: Peer) -> DealerSocket:
        dealer = self._context.transport.dealer(
            peer.endpoint,
            partial(self._on_message, peer.instance),
            fingerprint=peer.announcement.fingerprint,
            awaited=partial(self.pending.of, peer.instance),
        )
        self._dealers[peer.instance] = dealer
        return dealer

    def _on_message(self, instance: str, frame: bytes) -> None:
        try:
            call_id, reply = envelope.decode(frame)
        except ProtocolError as error:
            self._unreadable(instance, frame, error)
            return
        call = self.pending.answered(call_id, instance)
        if call is not None:
            future = call.waiter[0]
            if not future.done():
                future.set_result(reply)

    def _unreadable(self, instance: str, frame: bytes, error: ProtocolError) -> None:
        self.protocol_errors += 1
        call = self.pending.answered(envelope.call_id_of(frame), instance)
        if call is not None and not call.waiter[0].done():
            call.waiter[0].set_exception(error)

    def _give_up(self, call_id: int) -> None:
        """Stop waiting for a call; if it is unanswered, send CANCEL to its peer."""
        if (call := self.pending.forget(call_id)) is not None:
            self._cancel_remote(call_id, call)

    def _cancel_remote(self, call_id: int, call: PendingCall[Any]) -> None:
        dealer = self._dealers.get(call.peer)
        if dealer is not None and call.sent:
            dealer.send(envelope.encode(Cancel(), call_id))

    def _expire(self) -> None:
        self._sweeping = False
        if self._closed:
            return
        for call_id, call in self.pending.expired(time.monotonic()):
            future, outgoing, peer = call.waiter
            self._cancel_remote(call_id, call)
            if not future.done():
                future.set_exception(outgoing.timed_out(peer, sent=call.sent))
        if len(self.pending):
            self._sweeping = True
            self.loop.call_later(SWEEP_EVERY, self._expire)
