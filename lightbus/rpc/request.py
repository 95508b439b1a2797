"""One outgoing call or hand-off: which peer to ask next, how to encode the frame, what a reply means.

No sockets here, only decisions. `carry_out` is the only loop that asks one peer after the other. Both kinds of channel
(`calling.py` for event loops, `lightbus.blocking` for plain threads) send and wait for it, and so behave alike.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from ..core.partitions import rendezvous
from ..core.registry import Peer, Snapshot
from ..core.resolver import choose
from ..deadline import Deadline
from ..exceptions import (
    DeformError,
    LightbusException,
    LightbusTimeout,
    LightbusWorkerError,
    NotReachable,
    PayloadTooLarge,
    PeerBusy,
    PeerLost,
    PeerUnreachable,
    ProtocolError,
)
from ..membership.context import Identity
from ..ports.transport import Transport
from ..wire import envelope
from ..wire.envelope import Accepted, AnyMessage, Batch, Error, Fire, Result
from ..wire.error_codes import error_for_code

__all__ = [
    "UNANSWERED",
    "Channel",
    "NeverSent",
    "NotStarted",
    "OutboundBatch",
    "OutboundEvent",
    "OutboundRequest",
    "RequestContext",
    "carry_out",
    "remote_error",
]


class RequestContext(Protocol):
    """What a channel uses of the engine."""

    identity: Identity
    snapshot: Snapshot
    wanted: set[str]
    max_message_size: int

    @property
    def transport(self) -> Transport:
        """The transport that makes the sockets."""

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return once a peer that advertises `api` is up, not counting the instances in `leaving`.

        Raises NotReachable, with the reason, if there is none by the deadline.
        """


class NotStarted(Exception):
    """A peer reports that it did not execute the call. `error.code` says why."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class NeverSent(Exception):
    """The connection broke, or the peer left, before the frame was sent."""


UNANSWERED = (NotStarted, NeverSent, PeerLost)
"""Errors after which another peer may be asked; after PeerLost only if the request is idempotent."""


class OutboundRequest:
    """
    One outgoing call or hand-off.

    Attributes:
        api, name: the API, and the name of the procedure or event.
        deadline: when the request times out.
        idempotent: whether it may be sent again if it is unclear whether it was executed.
        leaving: the instances that refused the request because they are shutting down.

    """

    answer: ClassVar[type[AnyMessage]] = Result
    """The message type of a successful answer."""
    setting: ClassVar[str] = "rpc_timeout"
    """The setting with the timeout, named in error texts."""
    is_call: ClassVar[bool] = False
    """Whether only peers that serve procedures can answer it."""

    # Attributes that most requests never set are class defaults, which keeps `__init__` cheap.
    _tried: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    _stall_counts: Mapping[str, int] = MappingProxyType({})
    _refusal: NotStarted | None = None

    def __init__(
        self, context: RequestContext, api: str, name: str, deadline: Deadline, *, idempotent: bool = False
    ) -> None:
        self._context = context
        self.api = api
        self.name = name
        self.deadline = deadline
        self.idempotent = idempotent

    @property
    def identity(self) -> Identity:
        """The caller."""
        return self._context.identity

    def __str__(self) -> str:
        return f"{self.api}.{self.name}"

    def pick(self, snapshot: Snapshot, in_flight: Mapping[str, int], *, resolved: bool = False) -> Peer | None:
        """
        Return the peer to ask next; None if none is known. Raises if all have refused, or the deadline has passed.

        `resolved`: the API was looked up just now, so the known peers are all there are.
        """
        peers = self.candidates(snapshot, resolved=resolved)
        if peers and (self._refusal is None or not self.deadline.passed()):
            peer = self.choose(peers, in_flight)
            if peer is not None:
                return peer
        if self._refusal is None:
            return None
        stay = any(peer.instance not in self.leaving for peer in peers)
        if stay or resolved or self.deadline.passed():
            raise self._all_refused(self._refusal)
        return None  # all that refused are shutting down: wait for a peer that replaces them

    def candidates(self, snapshot: Snapshot, *, resolved: bool = False) -> tuple[Peer, ...]:
        """Return the peers that may be asked."""
        return snapshot.by_api.get(self.api, ())

    def not_encodable(self, error: DeformError) -> DeformError:
        """Return the error for a message that cannot be encoded."""
        return error

    @property
    def is_targeted(self) -> bool:
        """Whether one particular peer is meant, whatever it advertises."""
        return False

    def choose(self, peers: tuple[Peer, ...], in_flight: Mapping[str, int]) -> Peer | None:
        """Return the one of `peers` to ask, or None if all were tried."""
        return choose(peers, in_flight, host=self.identity.host, tried=self._tried)

    def frame(self, peer: Peer, call_id: int) -> bytes:
        """Return the frame for `peer`. Raises DeformError, PayloadTooLarge, or NotStarted if only `peer` refuses it."""
        try:
            frame = self.encoded(peer, call_id)
        except DeformError as error:
            raise self.not_encodable(error) from None
        if len(frame) > (limit := self._context.max_message_size):
            raise PayloadTooLarge(
                f"The arguments of {self} take {len(frame)} bytes; a message may have {limit}. "
                "Send less, or raise network.max_message_size on both sides."
            )
        if 0 < peer.announcement.max_message_size < len(frame):
            raise NotStarted(Error(PayloadTooLarge.code, self._too_large_for(peer, len(frame)), False, {}))
        return frame

    def _too_large_for(self, peer: Peer, size: int) -> str:
        return (
            f"The arguments of {self} take {size} bytes; {peer.announcement} takes messages of "
            f"{peer.announcement.max_message_size} bytes, and this process may send {self._context.max_message_size}. "
            "Send less, or raise network.max_message_size there."
        )

    def encoded(self, peer: Peer, call_id: int) -> bytes:
        """Return the frame for `peer` without a check of its size."""
        return envelope.encode(self.message(peer), call_id)

    def message(self, peer: Peer) -> AnyMessage:
        """Return the message for `peer`."""
        raise NotImplementedError

    def outcome(self, reply: AnyMessage, peer: Peer) -> Any:
        """Return the value of a reply. Raises the error that it reports; NotStarted if another peer may be asked."""
        if type(reply) is self.answer:
            return reply.value if type(reply) is Result else reply
        if type(reply) is Error:
            if not reply.started and reply.details.get("elsewhere"):
                raise NotStarted(reply)
            raise remote_error(reply, peer)
        raise ProtocolError(f"{peer.announcement} answered {self} with a {type(reply).__name__} message.")

    def refused(self, peer: Peer, refusal: NotStarted) -> None:
        """Record that `peer` refused the request without starting it."""
        self._refusal = refusal
        instance = peer.instance
        # A worker whose loop was stalled refuses requests that may be old, with its stall count. A request sent again
        # with that count is fresh, and it accepts it.
        count = refusal.error.details.get("epoch")  # the field's name on the wire
        if isinstance(count, int) and self._stall_counts.get(instance) != count:
            self._stall_counts = {**self._stall_counts, instance: count}
        else:
            self._tried |= {instance}
        if refusal.error.details.get("leaving"):
            self.leaving |= {instance}

    def not_sent(self, peer: Peer) -> None:
        """Record that the connection to `peer` broke before the frame was sent."""
        self._tried |= {peer.instance}
        self._refusal = NotStarted(
            Error(PeerUnreachable.code, f"{peer.announcement} went away before {self} was sent.", False, {})
        )

    def not_answered(self, peer: Peer, error: Exception) -> None:
        """Record that `peer` did not answer, because of `error` (of UNANSWERED). Raises it if no other may be asked."""
        if isinstance(error, NotStarted):
            self.refused(peer, error)
        elif isinstance(error, PeerLost) and not self.idempotent:
            raise error
        else:
            self.not_sent(peer)

    def no_worker_error(self, error: NotReachable) -> LightbusException:
        """Return the error for when there is no peer to ask (any more): the last peer's refusal, if there was one."""
        return error if self._refusal is None else self._all_refused(self._refusal)

    def timed_out(self, peer: Peer, *, sent: bool) -> LightbusException:
        """Return the error for a deadline that passed; `sent` says whether the frame had been sent."""
        if not sent:
            is_near = peer.announcement.on_host_only
            guess = "Is its process stopped, or too busy" if is_near else "Is its port open to this host"
            return PeerUnreachable(
                f"{self} was not sent: no connection to {peer.announcement} at {peer.endpoint} within "
                f"{self.deadline.given:.3g} s. {guess}, or has one of the two reached its limit of open files "
                "(ulimit -n)?"
            )
        if self.deadline.is_inherited:
            remedy = "That was all the time left of the call that made it: allow that one more time."
        else:
            remedy = f"Raise `{self.setting}` (or bus_options={{'timeout': seconds}}) if it needs longer."
        return LightbusTimeout(
            f"{peer.announcement} did not answer {self} within {self.deadline.given:.3g} s. "
            f"It may or may not have been executed. {remedy}"
        )

    def lost(self, peer: Peer, reason: str) -> PeerLost:
        """Return the error for a peer that left after the request was sent to it."""
        return PeerLost(
            f"{peer.announcement} {reason} while {self} was in progress. It may or may not have been executed, "
            "and is not repeated: call again if that is safe."
        )

    def _all_refused(self, refusal: NotStarted) -> LightbusException:
        error = refusal.error
        kind = error_for_code(error.code)
        if issubclass(kind, PayloadTooLarge):
            return kind(error.message)
        text = f"No peer takes {self}: {error.message}"
        return kind(text) if issubclass(kind, (PeerBusy, PeerUnreachable)) else PeerBusy(text)


class Channel(Protocol):
    """The connections of an event loop or of plain threads, over which requests are sent to peers."""

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next (see `OutboundRequest.pick`), or None. No peer is returned twice."""

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return once a peer is up that advertises the API. Raises NotReachable if there is none in time."""

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        """Send the frame, and return the reply. Raises NotStarted, NeverSent, PeerLost, or an error that is final."""


async def carry_out(channel: Channel, outgoing: OutboundRequest, wanted: Container[str]) -> Any:
    """
    Ask one peer after the other until one has answered, and return the outcome. Raises the error that is final.

    After a peer that certainly did not start the request, the next is asked; after one that may have started it, only
    if the request is idempotent.

    Args:
        channel: sends and waits. The channel of plain threads blocks and never suspends this coroutine.
        outgoing: the request to carry out.
        wanted: the APIs that were resolved before, so that their peers are known.

    """
    while True:
        peer = channel.pick(outgoing) if outgoing.api in wanted or outgoing.is_targeted else None
        if peer is None:
            try:
                await channel.look_for(outgoing)
            except NotReachable as error:
                raise outgoing.no_worker_error(error) from None
            if (peer := channel.pick(outgoing, resolved=True)) is None:
                continue  # the peer left just now
        try:
            return outgoing.outcome(await channel.ask(peer, outgoing), peer)
        except UNANSWERED as error:
            outgoing.not_answered(peer, error)


class OutboundEvent(OutboundRequest):
    """
    The hand-off of an event to a peer that publishes it.

    It is sent again if its outcome is unclear: the publisher's journal recognises an event that it has by the event id.
    """

    answer = Accepted
    setting = "event_fire_timeout"

    def __init__(
        self,
        context: RequestContext,
        api: str,
        name: str,
        deadline: Deadline,
        record: bytes,
        key: str | None,
        wait_for: str = "journal",
    ) -> None:
        super().__init__(context, api, name, deadline, idempotent=True)
        self.record = record
        self.key = key
        self.wait_for = wait_for

    def choose(self, peers: tuple[Peer, ...], in_flight: Mapping[str, int]) -> Peer | None:
        # Events of one key always go to one publisher, since order is promised per publisher only. Events without a
        # key all go to one publisher, so that those of this process stay in order as long as that publisher is up.
        left = {peer.instance: peer for peer in peers if peer.instance not in self._tried}
        chosen = rendezvous(self.key if self.key is not None else self.identity.instance, left)
        return None if chosen is None else left[chosen]

    def message(self, peer: Peer) -> Fire | Batch:
        return Fire(peer.instance, self.api, self.name, self.deadline.left(), self.key, self.record, self.wait_for)


class OutboundBatch(OutboundEvent):
    """The hand-off of events that one publisher stores in one commit. `key` selects the publisher, as for one event."""

    def __init__(
        self,
        context: RequestContext,
        api: str,
        name: str,
        deadline: Deadline,
        rows: list[list[Any]],
        key: str | None,
        wait_for: str = "journal",
    ) -> None:
        super().__init__(context, api, name, deadline, b"", key, wait_for)
        self.rows = rows

    def message(self, peer: Peer) -> Batch:
        return Batch(peer.instance, self.api, self.name, self.deadline.left(), self.rows, self.wait_for)


def remote_error(error: Error, peer: Peer) -> LightbusException:
    """Return the error that a peer has answered with."""
    kind = error_for_code(error.code)
    if kind is LightbusWorkerError:
        details = error.details
        args = details.get("args")
        return LightbusWorkerError(
            f"{error.message} (raised by {peer.announcement})",
            remote_type=str(details.get("type", "")),
            remote_args=args if isinstance(args, list) else (),
            trace=str(details.get("trace", "")),
            peer=str(peer.announcement),
        )
    told = kind(f"{error.message} (says {peer.announcement})")
    told.peer = str(peer.announcement)
    return told
