"""Replaces a bus client's engine and network: a single peer that advertises everything, and answers from a mock.

Requests and replies are encoded as frames, as on a real bus, so a value that could not be sent fails here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, NoReturn

from ..client import BusClient
from ..config import expand
from ..core.peers import Peer, PeerState, Snapshot, Source
from ..deadline import Deadline
from ..events.event_record import EventIds
from ..exceptions import DeformError, LightbusException, UnsupportedUse
from ..membership.context import Identity
from ..message import EventMessage, RpcMessage
from ..rpc.request import OutboundRequest
from ..service.execution import in_context, is_awaitable, is_cancelled
from ..service.failures import describe, encode_error, is_a
from ..utilities.async_tools import block
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import Accepted, Batch, Fire, Record, Request, Result
from .mock import BusMock

__all__ = ["MockChannel", "MockEngine"]


class MockQuestions:
    """Finds every API at once: the mock's peer advertises all names."""

    async def resolve_all(self, api: str, deadline: Deadline) -> None:
        """Find any API."""

    def resolve_all_blocking(self, api: str, deadline: Deadline) -> None:
        """Find any API."""

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Return no missing API."""
        return []

    def wait_for_blocking(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Return no missing API."""
        return []


class MockLoopHost:
    """Refuses to start a node: there is no network."""

    def ensure(self) -> NoReturn:
        """Refuse to join the network."""
        raise UnsupportedUse(
            "This bus is mocked, so it has no network, and no worker can serve on it. "
            "Use lightbus.testing.memory_bus() to run workers in a test."
        )

    async def adopt(self, on_left: Callable[[], None]) -> NoReturn:
        """Refuse to run a worker."""
        self.ensure()


class MockEngine:
    """The parts of an engine that a client needs for calling and firing: its only peer advertises everything."""

    def __init__(self, client: BusClient, mock: BusMock) -> None:
        config = client.config
        self.config = config
        self.identity = Identity(
            bus=config.bus_name, service=expand(config.service_name), process=expand(config.process_name)
        )
        self.max_message_size = config.network.max_message_size
        self.event_ids = EventIds(self.identity.instance)
        self.publisher = None
        self.executor = None
        """`def` hooks run in the threads of the calling loop itself."""
        self.questions = MockQuestions()
        self.loop_host = MockLoopHost()
        self._mock = mock
        self._peer = _peer(self.identity)

    @property
    def snapshot(self) -> Snapshot:
        """The known state of the bus: only which names are events."""
        return Snapshot(events=self._mock.mocked_events)

    def caller(self) -> _AsyncChannel:
        """Return the channel of any loop."""
        return _AsyncChannel(self)

    async def resolve(self, api: str, deadline: Deadline) -> None:
        """Find any API."""

    def resolve_blocking(self, api: str, deadline: Deadline) -> None:
        """Find any API."""

    def close(self, *, at_exit: bool = False) -> None:
        """Do nothing: there is nothing to close, and the real engine is restored later."""

    async def close_async(self) -> None:
        """Do nothing, like `close`."""

    # Requests

    def arrived(self, outgoing: OutboundRequest, context: Context) -> Any:
        """Record a call or an event; return the call's result, or an awaitable of it, or Accepted for an event."""
        _, message = envelope.decode(outgoing.frame(self._peer, 0))
        if isinstance(message, (Fire, Batch)):
            records = [message.record] if isinstance(message, Fire) else [record for _, record in message.rows]
            for record in envelope.decode_records(records):
                self._take(message.api, message.event, record)
            return Accepted("", self.identity.instance)
        assert isinstance(message, Request)
        return self._mock.take_call(
            RpcMessage(
                api_name=message.api,
                procedure_name=message.procedure,
                kwargs=message.kwargs,
                id=self.event_ids.next(),
            ),
            context,
        )

    def _take(self, api: str, name: str, record: Record) -> None:
        self._mock.take_event(
            EventMessage(
                api_name=api,
                event_name=name,
                kwargs=record.kwargs,
                version=record.version,
                id=record.id,
                published_at=record.published_at,
                publisher=self.identity.instance,
            )
        )

    def returned(self, outgoing: OutboundRequest, value: Any) -> Any:
        """Return the result as the caller gets it, after encoding and decoding."""
        if isinstance(value, Accepted):
            return outgoing.outcome(value, self._peer)
        try:
            _, reply = envelope.decode(envelope.encode(Result(value)))
        except DeformError as error:
            raise DeformError(f"The mocked result of {outgoing} cannot be sent: {error}") from None
        return outgoing.outcome(reply, self._peer)

    def raised(self, outgoing: OutboundRequest, error: BaseException) -> Any:
        """Raise the exception that the caller gets for an exception of the mock."""
        if not _is_handler_error(error):
            raise error
        frame = encode_error(describe(str(outgoing), error), 0, self.max_message_size)
        return outgoing.outcome(envelope.decode(frame)[1], self._peer)


def _is_handler_error(error: BaseException) -> bool:
    """Return whether to send an exception to the caller as a handler's: not one of the bus, nor of the test."""
    if is_a(error, asyncio.CancelledError):
        return not is_cancelled()
    if is_a(error, LightbusException) or is_a(error, AssertionError):
        return False
    return is_a(error, Exception) or is_a(error, SystemExit) or is_a(error, GeneratorExit)


class MockChannel:
    """The channel for plain threads."""

    def __init__(self, engine: MockEngine) -> None:
        self._engine = engine

    def resolve(self, api: str, deadline: Deadline) -> None:
        """Find any API."""

    def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off."""
        try:
            context = Context()
            value = self._engine.arrived(outgoing, context)
            if is_awaitable(value):
                value = block(in_context(context, value))
        except BaseException as error:
            return self._engine.raised(outgoing, error)
        return self._engine.returned(outgoing, value)


class _AsyncChannel:
    """The channel of an event loop."""

    def __init__(self, engine: MockEngine) -> None:
        self._engine = engine

    async def request(self, outgoing: OutboundRequest) -> Any:
        """Carry out a call or a hand-off."""
        try:
            context = Context()
            value = self._engine.arrived(outgoing, context)
            if is_awaitable(value):
                value = await in_context(context, value)
        except BaseException as error:
            return self._engine.raised(outgoing, error)
        return self._engine.returned(outgoing, value)


def _peer(identity: Identity) -> Peer:
    announcement = Announcement(
        bus=identity.bus,
        instance=identity.instance,
        service="mock",
        process="mock",
        host=identity.host,
        apis=(),
    )
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0)
