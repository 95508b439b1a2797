"""Events that are made now and fired later: when a transaction is committed, or from an outbox in a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from ..events.event_record import record_of
from ..events.publishing.relay_turns import RelayTurns
from ..exceptions import UnknownApi
from ..message import EventMessage, event_message
from ..typing import Kwargs
from ..wire import envelope
from .engine_holder import EngineHolder
from .firing import Firing
from .firing_many import FiringMany
from .hook_runner import HookRunner

__all__ = ["MadeEvents"]


class MadeEvents:
    """
    The part of a client that makes events to fire later.

    Args:
        firing: makes the events, and knows their settings.
        firing_many: fires the events.
        engines: makes the ids of the events.
        hooks: the hooks: those before and around run when an event is stored, those after when it is fired.

    Attributes:
        relayed: how many events of a database outbox were fired here, by API and name.
        overtaken: by API, how often this process fired events of an outbox although its predecessor's were not handled.

    """

    def __init__(self, firing: Firing, firing_many: FiringMany, engines: EngineHolder, hooks: HookRunner) -> None:
        self._firing = firing
        self._firing_many = firing_many
        self._engines = engines
        self._hooks = hooks
        self.relayed: Counter[tuple[str, str]] = Counter()
        self.overtaken: Counter[str] = Counter()
        self._storing: set[str] = set()
        """Ids of the events that are being stored, for hooks that call `is_storing`."""

    def make(self, api_name: str, name: str, kwargs: Kwargs, *, is_ours: bool = False) -> EventMessage:
        """
        Return an event with a new id and a snapshot of its arguments. Sends nothing, and does not wait.

        Raises what `BusPath.fire` raises for invalid arguments, as far as this process can check them, and UnknownApi
        if `is_ours` is set and the API is not registered here.
        """
        engine = self._engines.engine
        event, _, settings, _, _ = self._firing.resolve(engine, api_name, name, None)
        if event is None and is_ours:
            raise UnknownApi(
                f"The API '{api_name}' is not registered in this process, so that its events cannot be checked before "
                "the transaction ends. Register it: import the bus module that does."
            )
        message = self._firing.new_event(engine, event, api_name, name, kwargs, settings, None)
        return self.from_record(api_name, name, record_of(message))

    @contextmanager
    def storing(self, message: EventMessage) -> Iterator[None]:
        """
        Run the hooks before and around the body, in which the event is stored. From a plain thread.

        The hooks run in the context of the code that fires the event. `after_event_sent` hooks run only when the event
        is really fired.
        """
        if not self._hooks.is_about("event_sent"):
            yield
            return
        with self._noting(message), self._hooks.around("around_event_sent", event_message=message):
            given = message.kwargs
            self._hooks.run_blocking("before_event_sent", event_message=message)
            self._check_replaced(message, given)
            yield

    @asynccontextmanager
    async def storing_async(self, message: EventMessage) -> AsyncIterator[None]:
        """Run the hooks before and around the body, in which the event is stored. On an event loop."""
        if not self._hooks.is_about("event_sent"):
            yield
            return
        with self._noting(message), self._hooks.around("around_event_sent", event_message=message):
            given = message.kwargs
            await self._hooks.run("before_event_sent", event_message=message)
            self._check_replaced(message, given)
            yield

    @contextmanager
    def _noting(self, message: EventMessage) -> Iterator[None]:
        self._storing.add(message.id)
        try:
            yield
        finally:
            self._storing.discard(message.id)

    def _check_replaced(self, message: EventMessage, given: Kwargs) -> None:
        if message.kwargs is not given:
            engine, api_name = self._engines.engine, message.api_name
            event, _, settings, _, _ = self._firing.resolve(engine, api_name, message.event_name, None)
            self._firing.check_replaced(event, message, given, settings)

    def is_storing(self, message: EventMessage) -> bool:
        """Return whether the hooks run around a message because it is being stored, to be fired later or never."""
        return message.id in self._storing

    def fire_blocking(self, message: EventMessage) -> None:
        """Fire an event, with all hooks. Raises what `BusPath.fire` raises."""
        with self._hooks.around("around_event_sent", event_message=message):
            given = message.kwargs
            self._hooks.run_blocking("before_event_sent", event_message=message)
            self._check_replaced(message, given)
            self._firing_many.fire_made_blocking([message])
            self._hooks.run_blocking("after_event_sent", event_message=message)

    def relay_blocking(self, messages: Sequence[EventMessage]) -> None:
        """Fire stored events of one name, in their order. Raises what `BusPath.fire_many` raises."""
        self._firing_many.fire_made_blocking(messages)
        self.relayed[messages[0].api_name, messages[0].event_name] += len(messages)
        if self._hooks.has("after_event_sent"):
            for message in messages:
                self._hooks.run_blocking("after_event_sent", event_message=message)

    def relay_turns(self, outbox: str, place: str) -> RelayTurns:
        """Return what tells whether it is our turn to fire the events of a database outbox: see `RelayTurns`."""
        return RelayTurns(self._engines.engine.journals, outbox, place, self.overtaken, self._firing.is_journaled)

    @staticmethod
    def record(message: EventMessage) -> bytes:
        """Return an event as bytes, to be stored. Raises DeformError if an argument cannot be encoded."""
        return record_of(message)

    @staticmethod
    def from_record(api_name: str, name: str, record: bytes) -> EventMessage:
        """Return the event encoded in bytes that `record` returned. Raises ProtocolError for other bytes."""
        id, version, published_at, kwargs, trace = envelope.decode_record(record)
        return event_message(api_name, name, kwargs, version, id, "", 1, published_at, "", trace)
