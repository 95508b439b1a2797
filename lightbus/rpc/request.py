"""One call or hand-off on its way: which peer is asked next, what the frame is, what a reply means.

It decides and knows no socket. `carry_out` is the one loop that asks peer after peer; the channels of both channels
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
    """What a channel needs of the engine behind it."""

    identity: Identity
    snapshot: Snapshot
    wanted: set[str]
    max_message_size: int

    @property
    def transport(self) -> Transport:
        """Makes the sockets."""

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return when a peer that advertises `api` is up, none of those that are `leaving`.

        Raises the NotReachable that says why there is none otherwise.
        """


class NotStarted(Exception):
    """A peer says that it certainly did not execute the call. `code` says why."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class NeverSent(Exception):
    """The connection broke, or the peer went away, before the frame left."""


UNANSWERED = (NotStarted, NeverSent, PeerLost)
"""Why another peer may be asked: the first two say that nothing was done, after the third that has to do no harm."""


class OutboundRequest:
    """
    One call or hand-off on its way.

    Attributes:
        api, name: of the procedure or event.
        deadline: by when it must be answered.
        idempotent: whether it may be repeated when it is unclear whether it was executed.
        leaving: the instances that refused it because they leave.

    """

    answer: ClassVar[type[AnyMessage]] = Result
    """What it is answered with, where it is not an Error."""
    setting: ClassVar[str] = "rpc_timeout"
    """The setting that gives it its time."""
    is_call: ClassVar[bool] = False
    """Whether only those can carry it out that serve procedures."""

    # What most do without is a default of the class: there is less to set for each.
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
        Return the peer to ask next; None if none is known. Raises when all have refused or no time is left.

        `resolved`: it was just looked for, so that there is no better one than those that are known.
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
        return None  # all that refused are leaving: their successor is worth waiting for

    def candidates(self, snapshot: Snapshot, *, resolved: bool = False) -> tuple[Peer, ...]:
        """Return the peers that may be asked."""
        return snapshot.by_api.get(self.api, ())

    def not_encodable(self, error: DeformError) -> DeformError:
        """Return the error for a message that cannot be put on the wire."""
        return error

    @property
    def is_targeted(self) -> bool:
        """Whether one particular peer is meant, whatever it advertises."""
        return False

    def choose(self, peers: tuple[Peer, ...], in_flight: Mapping[str, int]) -> Peer | None:
        """Return the one of `peers` to ask, or None where all were tried."""
        return choose(peers, in_flight, host=self.identity.host, tried=self._tried)

    def frame(self, peer: Peer, call_id: int) -> bytes:
        """Return the frame for `peer`. Raises DeformError, PayloadTooLarge, or NotStarted where only `peer` refuses."""
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
        """Return what `frame` does, whatever its size."""
        return envelope.encode(self.message(peer), call_id)

    def message(self, peer: Peer) -> AnyMessage:
        """Return the message for `peer`."""
        raise NotImplementedError

    def outcome(self, reply: AnyMessage, peer: Peer) -> Any:
        """Return the value a reply carries. Raises the error it carries; NotStarted where another peer may be asked."""
        if type(reply) is self.answer:
            return reply.value if type(reply) is Result else reply
        if type(reply) is Error:
            if not reply.started and reply.details.get("elsewhere"):
                raise NotStarted(reply)
            raise remote_error(reply, peer)
        raise ProtocolError(f"{peer.announcement} answered {self} with a {type(reply).__name__} message.")

    def refused(self, peer: Peer, refusal: NotStarted) -> None:
        """Record that `peer` did not start it."""
        self._refusal = refusal
        instance = peer.instance
        # A process that stood still refuses what may be old. Sent again with its number, it knows that it is not.
        count = refusal.error.details.get("epoch")  # the name that it has on the wire
        if isinstance(count, int) and self._stall_counts.get(instance) != count:
            self._stall_counts = {**self._stall_counts, instance: count}
        else:
            self._tried |= {instance}
        if refusal.error.details.get("leaving"):
            self.leaving |= {instance}

    def not_sent(self, peer: Peer) -> None:
        """Record that the connection to `peer` broke before the frame left."""
        self._tried |= {peer.instance}
        self._refusal = NotStarted(
            Error(PeerUnreachable.code, f"{peer.announcement} went away before {self} was sent.", False, {})
        )

    def not_answered(self, peer: Peer, error: Exception) -> None:
        """Record that `peer` did not answer; `error` (one of UNANSWERED) says why. Raises it where that is the end."""
        if isinstance(error, NotStarted):
            self.refused(peer, error)
        elif isinstance(error, PeerLost) and not self.idempotent:
            raise error
        else:
            self.not_sent(peer)

    def no_worker_error(self, error: NotReachable) -> LightbusException:
        """Return the error if there is no peer (any more), with the reason why the last one did not start it."""
        return error if self._refusal is None else self._all_refused(self._refusal)

    def timed_out(self, peer: Peer, *, sent: bool) -> LightbusException:
        """Return the error for a passed deadline."""
        if not sent:
            is_near = peer.announcement.on_host_only
            guess = "Is its process stopped, or too busy" if is_near else "Is its port open to this host"
            return PeerUnreachable(
                f"{self} was not sent: no connection to {peer.announcement} at {peer.endpoint} within "
                f"{self.deadline.given:.3g} s. {guess}, or have its process or this one as many open files as they may?"
            )
        if self.deadline.is_inherited:
            remedy = "That was all that is left of the call in which it was made: give that one more time."
        else:
            remedy = f"Raise `{self.setting}` (or bus_options={{'timeout': seconds}}) if it needs longer."
        return LightbusTimeout(
            f"{peer.announcement} did not answer {self} within {self.deadline.given:.3g} s. "
            f"It may or may not have been executed. {remedy}"
        )

    def lost(self, peer: Peer, reason: str) -> PeerLost:
        """Return the error for a peer that left while it had this."""
        return PeerLost(
            f"{peer.announcement} {reason} while {self} was with it. It may or may not have been executed, "
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
    """What carries a call or a hand-off to a peer: connections, of an event loop or of plain threads."""

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        """Return the peer to ask next (see `OutboundRequest.pick`). Each is asked, once."""

    async def look_for(self, outgoing: OutboundRequest) -> None:
        """Return when a peer is up that advertises the API. Raises what NotReachable there is."""

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        """Send the frame, and return the reply. Raises NotStarted, NeverSent, PeerLost, or what ends the request."""


async def carry_out(channel: Channel, outgoing: OutboundRequest, wanted: Container[str]) -> Any:
    """
    Ask one peer after the other until one has answered, and return what it came to. Raises what went wrong.

    A peer that certainly did not start it is followed by the next; one that may have, only where that does no harm.

    Args:
        channel: sends and waits. That of plain threads blocks where it is called and never suspends this coroutine.
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
                continue  # it went away just now
        try:
            return outgoing.outcome(await channel.ask(peer, outgoing), peer)
        except UNANSWERED as error:
            outgoing.not_answered(peer, error)


class OutboundEvent(OutboundRequest):
    """
    The hand-off of an event to a peer that publishes it.

    It is repeated if its outcome is unclear: the publisher's journal recognises an event that it has by its id.
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
        # One key always goes to one publisher, since order is promised per publisher only; without a key
        # everything of this process goes to one, so that it stays in order as long as that one lives.
        left = {peer.instance: peer for peer in peers if peer.instance not in self._tried}
        chosen = rendezvous(self.key if self.key is not None else self.identity.instance, left)
        return None if chosen is None else left[chosen]

    def message(self, peer: Peer) -> Fire | Batch:
        return Fire(peer.instance, self.api, self.name, self.deadline.left(), self.key, self.record, self.wait_for)


class OutboundBatch(OutboundEvent):
    """The hand-off of events that one publisher stores by one commit. `key` says which publisher, as for one event."""

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
