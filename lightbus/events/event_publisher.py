"""The publisher of a process's events, as the code that fires them sees it, without importing an implementation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from ..message import EventMessage
from ..service.api import Event
from ..wire.envelope import AnyMessage, Batch, Fire
from .backend_places import AnyPlace
from .event_record import RecordRow

__all__ = ["LATE_TIMEOUT", "BatchPublisher", "EventPublisher"]

LATE_TIMEOUT = 20.0
"""Seconds after which a thread that fires gives up, where what it waits for is not answered at all."""


class BatchPublisher(Protocol):
    """What publishes events that are fired together: all of them or none, where no backend keeps them."""

    def publish(self, messages: Sequence[EventMessage], event: Event) -> Future[list[AnyPlace]]:
        """Publish the events of these messages; note in each where it is to be found. From any thread."""

    def publish_rows(
        self, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
    ) -> Future[list[AnyPlace]]:
        """Publish encoded events; return where they are, or the last ones of their topics. From any thread."""

    def hand_off(self, batch: Batch, reply: Callable[[AnyMessage], None]) -> None:
        """Publish events for a process that cannot. On the node's loop."""


class EventPublisher(Protocol):
    """What publishes for this process: its `Publisher`, or a `BackendPublisher` in front of that."""

    @property
    def batches(self) -> BatchPublisher:
        """Publishes events that are fired together."""

    @property
    def put_by(self) -> list[str]:
        """A sentence about each API whose events wait in the outbox of this host, as its backend takes none."""

    @property
    def waiting(self) -> int:
        """How many events are queued."""

    def publish(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Have an event kept and published, from any thread; return where it is, None for one of best effort."""

    def begin(self, message: EventMessage, event: Event) -> Awaitable[object] | None:
        """Begin to store an event, on a loop; return the future to await, None if there is none."""

    async def publish_async(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Have an event kept and published, on a loop; return where it is, None for one of best effort."""

    def hand_off(self, fire: Fire, reply: Callable[[AnyMessage], None]) -> None:
        """Publish an event for a process that cannot."""

    def handled_by_all(self, place: Any, seconds: float) -> Future[None]:
        """Return a future that is done once every group has handled an event; takes the result of `publish`."""

    def flush(self) -> int:
        """Store and publish the queued events."""
