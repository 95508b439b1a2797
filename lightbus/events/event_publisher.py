"""The interface of the publisher of a process's events, for the code that fires them."""

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
"""Seconds after which a thread that fires an event gives up if the store does not answer."""


class BatchPublisher(Protocol):
    """Publishes events that are fired together: all or none, except those that a backend keeps."""

    def publish(self, messages: Sequence[EventMessage], event: Event) -> Future[list[AnyPlace]]:
        """Publish the events of these messages, and set the place of each in its message. Thread-safe."""

    def publish_rows(
        self, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
    ) -> Future[list[AnyPlace]]:
        """Publish encoded events; return their places, or the last place of each topic. Thread-safe."""

    def hand_off(self, batch: Batch, reply: Callable[[AnyMessage], None]) -> None:
        """Publish events for a process that does not publish. On the node's loop."""


class EventPublisher(Protocol):
    """The publisher of this process: its `Publisher`, or a `BackendPublisher` in front of that."""

    @property
    def batches(self) -> BatchPublisher:
        """Publishes events that are fired together."""

    @property
    def put_by(self) -> list[str]:
        """A sentence about each API whose events wait in the outbox of this host for their backend."""

    @property
    def waiting(self) -> int:
        """How many events are queued."""

    def publish(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Store and publish an event; return its place, None for one of best effort. Thread-safe."""

    def begin(self, message: EventMessage, event: Event) -> Awaitable[object] | None:
        """Begin to store an event, on a loop; return the future to await, None if there is none."""

    async def publish_async(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Store and publish an event, on a loop; return its place, None for one of best effort."""

    def hand_off(self, fire: Fire, reply: Callable[[AnyMessage], None]) -> None:
        """Publish an event for a process that does not publish."""

    def handled_by_all(self, place: Any, seconds: float) -> Future[None]:
        """Return a future that is done once every group has handled an event; takes the result of `publish`."""

    def flush(self) -> int:
        """Store and publish the queued events."""
