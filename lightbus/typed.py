"""The types of bus paths for type checkers: base classes of the stubs that `lightbus stubs` writes.

None of these is instantiated at run time: `bus.auth.check_password` is still a `BusPath`. The generated classes derive
from these, and add the parameters of one procedure or event.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar, overload

from .client import BusClient
from .listener import OnError
from .message import EventMessage
from .service.schema import Schema
from .typing import JsonSchema

__all__ = ["CallOptions", "FireOptions", "ListenOptions", "TypedBus", "TypedEvent", "TypedPath", "TypedProcedure"]

Arguments = TypeVar("Arguments")
Handler = TypeVar("Handler")


class CallOptions(TypedDict, total=False):
    """`bus_options` of a call."""

    timeout: float
    idempotent: bool
    peer: str
    version: int
    trace: dict[str, Any]


class FireOptions(TypedDict, total=False):
    """`bus_options` of an event that is fired."""

    timeout: float
    wait_for: Literal["journal", "ack"]
    trace: dict[str, Any]


class ListenOptions(TypedDict, total=False):
    """`bus_options` of a listener."""

    since: str | datetime


class TypedPath:
    """A part of a path. A generated subclass has the parts that can follow."""

    @property
    def api_name(self) -> str:
        """All parts but the last."""
        raise NotImplementedError

    @property
    def fully_qualified_name(self) -> str:
        """All parts."""
        raise NotImplementedError


class TypedBus:
    """The root: `lightbus.create()`."""

    @property
    def client(self) -> BusClient:
        """The client: registering, listening, hooks, schedules, lifecycle."""
        raise NotImplementedError

    @property
    def schema(self) -> Schema:
        """The schemas of the APIs registered or loaded here."""
        raise NotImplementedError


class _MemberPath(TypedPath):
    @property
    def parameter_schema(self) -> JsonSchema:
        """The JSON Schema of the arguments."""
        raise NotImplementedError

    def validate_parameters(self, parameters: dict[str, Any]) -> None:
        """Raise ValidationError where the arguments do not satisfy the schema."""
        raise NotImplementedError


class TypedProcedure(_MemberPath):
    """A procedure. The generated class adds `__call__`, `call` and `call_async`."""

    @property
    def response_schema(self) -> JsonSchema | None:
        """The JSON Schema of the result; None where the schema does not describe it."""
        raise NotImplementedError

    def validate_response(self, response: Any) -> None:
        """Raise ValidationError where the result does not satisfy the schema."""
        raise NotImplementedError


class TypedEvent(_MemberPath, Generic[Arguments, Handler]):
    """An event. The generated class adds `__call__`, `fire` and `fire_async`."""

    def fire_many(self, events: Iterable[Arguments], *, bus_options: FireOptions | None = None) -> list[str]:
        """Fire many of these events together; return their ids when they are on disk."""
        raise NotImplementedError

    async def fire_many_async(
        self, events: Iterable[Arguments] | AsyncIterable[Arguments], *, bus_options: FireOptions | None = None
    ) -> list[str]:
        """Fire many of these events together on an event loop; they may come from an async generator, too."""
        raise NotImplementedError

    @overload
    def listen(
        self,
        listener: Handler,
        *,
        listener_name: str | None = None,
        group: str | None = "{service_name}-{listener_name}",
        concurrency: int = 1,
        max_deliveries: int = 5,
        bus_options: ListenOptions | None = None,
        on_error: OnError | None = None,
    ) -> None: ...
    @overload
    def listen(
        self,
        listener: Callable[[list[EventMessage]], object],
        *,
        listener_name: str | None = None,
        group: str | None = "{service_name}-{listener_name}",
        concurrency: int = 1,
        max_deliveries: int = 5,
        bus_options: ListenOptions | None = None,
        on_error: OnError | None = None,
        batch: int,
        batch_wait: float = 0.05,
    ) -> None: ...
    def listen(self, listener: Any, **options: Any) -> None:
        """
        Call `listener` for each of these events, once this process runs as a worker.

        The listener takes the EventMessage, and the arguments by name: all, or those it names beside `**rest`.
        """
        raise NotImplementedError

    def history(
        self, start: datetime | float | None = None, stop: datetime | float | None = None, *, limit: int = 1000
    ) -> list[EventMessage]:
        """Return the newest events of this name that its publishers have kept, oldest first."""
        raise NotImplementedError

    async def history_async(
        self, start: datetime | float | None = None, stop: datetime | float | None = None, *, limit: int = 1000
    ) -> list[EventMessage]:
        """Return, on an event loop, the newest events of this name that its publishers have kept, oldest first."""
        raise NotImplementedError

    def lag(self, listener_name: str) -> int:
        """Return how many events a listener of this service, by its name, has not handled yet."""
        raise NotImplementedError

    async def lag_async(self, listener_name: str) -> int:
        """Return, on an event loop, how many events a listener of this service has not handled yet."""
        raise NotImplementedError
