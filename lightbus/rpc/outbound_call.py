"""One outgoing call: what differs from a hand-off, mainly the choice among versions of an API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.registry import Peer, Snapshot
from ..core.versions import fitting, of_the_same_version
from ..deadline import Deadline, current_call
from ..exceptions import (
    DeformError,
    InvalidParameters,
    LightbusException,
    PeerUnreachable,
    UnknownProcedure,
    ValidationError,
)
from ..wire import envelope
from ..wire.envelope import AnyMessage, Error, Result
from .request import NotStarted, OutboundRequest, RequestContext, remote_error

__all__ = ["OutboundCall"]

_MISFITS = frozenset({InvalidParameters.code, ValidationError.code, UnknownProcedure.code})
"""Errors of a peer whose version of the API does not have the procedure or arguments: another version may."""


class OutboundCall(OutboundRequest):
    """A procedure call."""

    is_call = True

    _mixed: tuple[Peer, ...] = ()
    """The peers that serve the API, if they do not all serve the same version."""
    _schema_error: LightbusException | None = None
    """The error of the first of these peers whose version does not fit the call."""

    def __init__(
        self,
        context: RequestContext,
        api: str,
        name: str,
        deadline: Deadline,
        kwargs: dict[str, Any],
        *,
        idempotent: bool = False,
        trace: dict[str, Any] | None = None,
        only: str | None = None,
        version: int | None = None,
    ) -> None:
        # The base class's `__init__` inlined, for speed: one object is made per call.
        self._context = context
        self.api = api
        self.name = name
        self.deadline = deadline
        self.idempotent = idempotent
        self.kwargs = kwargs
        self.trace = trace
        self.only = only
        self.version = version

    def pick(self, snapshot: Snapshot, in_flight: Mapping[str, int], *, resolved: bool = False) -> Peer | None:
        if self.only is None:
            peers = snapshot.serving.get(self.api, ())
            if len(peers) == 1 and self._refusal is None and self.version is None:
                return peers[0]  # the usual case
            return super().pick(snapshot, in_flight, resolved=resolved)
        if self._refusal is not None and (self.only in self._tried or self.deadline.passed()):
            raise self._all_refused(self._refusal)
        peer = snapshot.peers.get(self.only)
        if peer is None or not peer.is_up:
            raise PeerUnreachable(f"{self} is meant for the instance {self.only}, and no such peer is up.")
        return peer

    def candidates(self, snapshot: Snapshot, *, resolved: bool = False) -> tuple[Peer, ...]:
        # If no peer serves the API's calls, ask one that only publishes its events: its refusal says why.
        peers = snapshot.serving.get(self.api)
        if peers and (self.version is not None or self.api in snapshot.mixed):
            self._mixed = peers
            return fitting(peers, self.api, self.name, self.version)
        return peers or (snapshot.by_api.get(self.api, ()) if resolved else ())

    def outcome(self, reply: AnyMessage, peer: Peer) -> Any:
        if type(reply) is Result and not self.api.startswith("internal."):
            return reply.value  # the usual case
        if self._mixed and type(reply) is Error and not reply.started and reply.code in _MISFITS:
            raise NotStarted(reply)
        value = super().outcome(reply, peer)
        if self.api.startswith("internal."):
            from ..wire.answers import checked_answer  # imported here: few processes need it

            checked_answer(self.api, self.name, value, peer.announcement)
        return value

    def refused(self, peer: Peer, refusal: NotStarted) -> None:
        super().refused(peer, refusal)
        if refusal.error.code in _MISFITS:
            self._tried |= of_the_same_version(self._mixed, self.api, peer)
            self._schema_error = self._schema_error or remote_error(refusal.error, peer)

    def _all_refused(self, refusal: NotStarted) -> LightbusException:
        return self._schema_error or super()._all_refused(refusal)

    def not_encodable(self, error: DeformError) -> DeformError:
        return DeformError(f"The arguments of {self} cannot be sent: {error}")

    @property
    def is_targeted(self) -> bool:
        return self.only is not None

    def encoded(self, peer: Peer, call_id: int) -> bytes:
        instance, served = peer.announcement.instance, current_call.get()
        # The fields of a Request, without making one, for speed: nearly every call passes here.
        fields = [
            instance,
            self.api,
            self.name,
            self.deadline.left(),
            self._context.identity.instance,
            [] if served is None else [*served.chain],
            self.trace,
            self._stall_counts.get(instance, 0),
            self.kwargs,
        ]
        return envelope.encode_request(fields, call_id)
