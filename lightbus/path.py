"""`bus.auth.check_password`: attribute access becomes the name of an API, a procedure or an event."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from datetime import datetime
from typing import Any, Self

from .client import BusClient
from .exceptions import InvalidEventArguments, InvalidEventListener, InvalidName, InvalidParameters
from .keywords import unknown_keywords_raise
from .listener import OnError
from .message import EventMessage
from .path_names import SHORTEST, PathNames
from .service.reachable import OF_MEMBERS
from .service.schema import Schema
from .typing import BusOptions, JsonSchema, Kwargs

__all__ = ["BusPath"]


class BusPath(PathNames):
    """
    A place on the bus. `lightbus.create()` returns the root; attributes lead on.

    The last part is the name of a procedure or an event, what is before it is the name of the API.
    Arguments are given by name only. `call`, `fire`, `listen` and their like are there from the second part on; before
    it they are names as any other: `bus.orders.history(...)` calls a procedure of that name.
    """

    __slots__ = ("__dict__", "__weakref__", "_client")

    def __init__(self, client: BusClient, parts: tuple[str, ...] = ()) -> None:
        super().__init__(parts)
        self._client = client
        if len(parts) < SHORTEST:  # what is found here comes before the methods
            self.__dict__.update({name: self._at((*parts, name)) for name in OF_MEMBERS})

    # Names

    def __getattr__(self, name: str) -> BusPath:
        if name.startswith("_"):
            raise AttributeError(f"Names on the bus do not begin with an underscore: '{name}'.")
        child = self.__dict__[name] = self._at((*self._parts, name))  # the next look-up finds it without coming here
        return child

    def _at(self, parts: tuple[str, ...]) -> Self:
        return type(self)(self._client, parts)

    def __dir__(self) -> list[str]:
        """Return what can follow: the methods, and the names known on the bus at the moment."""
        return sorted({*super().__dir__(), *self._client.names.completions(self._parts)})

    @property
    def client(self) -> BusClient:
        """The client: registering, listening, hooks, schedules, lifecycle. Below the root a name like any other."""
        return self._client if not self._parts else self._at((*self._parts, "client"))  # type: ignore[return-value]

    @property
    def schema(self) -> Schema:
        """The schemas of the APIs registered or loaded here. Below the root a name like any other."""
        return self._client.schema if not self._parts else self._at((*self._parts, "schema"))  # type: ignore[return-value]

    # Calling

    def __call__(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> Any:
        """
        Call the procedure and return its result; where it is an event, fire it and return the EventMessage.

        Args:
            bus_options: `timeout` in seconds, instead of the API's `rpc_timeout`; `version`: that of the API that is
                wanted; of an event, what `fire` has.
            kwargs: the arguments.

        Raises:
            CannotBlockHere: inside a running event loop; await `call_async` or `fire_async` there.
            UnknownApi, UnknownProcedure, PeerUnreachable, PeerRefused, PeerBusy: nobody could do it; nothing was done.
            InvalidParameters, ValidationError, DeformError: the arguments are wrong.
            LightbusTimeout, PeerLost: it may or may not have been done.
            LightbusWorkerError: the handler raised.

        """
        if args or not self._api_name:  # asked here, too: of each call
            self._check(args, InvalidParameters)
        return self._client.call_or_fire(self._api_name, self._name, kwargs, bus_options)

    def call(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> Any:
        """Call the procedure and return its result. Raises what `__call__` raises."""
        self._check(args, InvalidParameters)
        return self._client.call_rpc_blocking(self._api_name, self._name, kwargs, bus_options)

    async def call_async(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> Any:
        """Call the procedure and return its result; for event loops. Raises what `__call__` raises."""
        self._check(args, InvalidParameters)
        return await self._client.call_rpc_remote(self._api_name, self._name, kwargs, bus_options)

    # Events

    def fire(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> EventMessage:
        """
        Fire the event; return it when it is on disk: of a publisher, or of this host until there is one.

        Args:
            bus_options: `timeout` in seconds; `wait_for`: "journal" (the default), or "ack": until every group that is
                owed the event has handled it.
            kwargs: the arguments.

        Raises:
            CannotBlockHere: inside a running event loop; await `fire_async` there.
            UnknownApi, EventNotFound, PeerUnreachable, PeerRefused: nobody publishes it.
            InvalidEventArguments, ValidationError, DeformError: the arguments are wrong.
            LightbusTimeout, PeerLost: it may or may not have been published.

        """
        if args or not self._api_name:
            raise _refusal(self._parts, len(args), InvalidEventArguments)
        return self._client.fire_event_blocking(self._api_name, self._name, kwargs, bus_options)

    async def fire_async(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> EventMessage:
        """Fire the event; for event loops. Raises what `fire` raises."""
        if args or not self._api_name:
            raise _refusal(self._parts, len(args), InvalidEventArguments)
        return await self._client.fire_event(self._api_name, self._name, kwargs, bus_options)

    def fire_many(self, events: Iterable[Kwargs], *, bus_options: Any = None) -> list[str]:
        """
        Fire many of these events together; return their ids when they are on disk.

        Those of a list are stored by one commit, all of them or none. What a generator yields is stored a thousand at a
        time, and the next ones are asked for when these are on disk: where one fails, those before are fired.
        A publisher has one commit of its own: where there are several, and this process is none of them, events with
        keys are handed to that of their key, and each stores its share.

        Args:
            events: the arguments of each event, as a dict.
            bus_options: as `fire` has them, for all together (of a generator: for each thousand).

        Raises what `fire` raises.
        """
        self._check((), InvalidEventArguments)
        return self._client.firing_many.fire_blocking(self._api_name, self._name, events, bus_options)

    async def fire_many_async(
        self, events: Iterable[Kwargs] | AsyncIterable[Kwargs], *, bus_options: Any = None
    ) -> list[str]:
        """Fire many of these events together, as `fire_many` does; they may come from an async generator, too."""
        self._check((), InvalidEventArguments)
        return await self._client.firing_many.fire(self._api_name, self._name, events, bus_options)

    @unknown_keywords_raise(InvalidEventListener)
    def listen(
        self,
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        group: str | None = "{service_name}-{listener_name}",
        concurrency: int = 1,
        max_deliveries: int = 5,
        bus_options: BusOptions | None = None,
        on_error: OnError | None = None,
        batch: int | None = None,
        batch_wait: float = 0.05,
    ) -> None:
        """
        Call `listener` for each of these events, once this process runs as a worker.

        The workers of a service share the events of a listener, also those that were fired while none was there.

        Args:
            listener: is given the EventMessage (unless its first parameter has an argument's name), and the arguments.
            listener_name: names the consumer group; else the function's dotted name. With `{pid}` in it there is none.
            group: the name of the consumer group. None: every process is given every event, while it is connected.
            concurrency: how many partitions of the events are handled side by side.
            max_deliveries: how often an event is given to the group before it is a dead letter (`lightbus dead`).
            bus_options: `since`: where a new group begins: an event's id, a time, "0" (all that is kept), "$" (now).
            on_error: what happens when it raises; OnError.STOP_LISTENER by default.
            batch: call it with a list of so many EventMessages at most, and nothing else; see `BatchFailed`.
            batch_wait: how many seconds a list that is not full waits for more.

        Raises InvalidEventListener where it cannot be called, or not with what it would be given, and
        DuplicateListenerName where this API has a listener of that name already.
        """
        self._client.listen_for_event(
            self._api_name,
            self._name,
            listener,
            listener_name=listener_name,
            group=group,
            concurrency=concurrency,
            max_deliveries=max_deliveries,
            options=bus_options,
            on_error=on_error,
            batch=batch,
            batch_wait=batch_wait,
        )

    def history(
        self, start: datetime | float | None = None, stop: datetime | float | None = None, *, limit: int = 1000
    ) -> list[EventMessage]:
        """
        Return the newest events of this name that its publishers have kept, oldest first.

        Args:
            start, stop: a datetime, or seconds since 1970.
            limit: how many at most, from 1 to 1000; fewer where they take more than 16 MiB at a publisher.

        Raises UnknownApi where nobody publishes it, EventNotFound where its API has no such event, InvalidParameters
        for a limit that cannot be, and what a call raises. A publisher that does not answer is warned of in the log.
        """
        return self._client.history.history(self._api_name, self._name, start, stop, limit=limit)

    async def history_async(
        self, start: datetime | float | None = None, stop: datetime | float | None = None, *, limit: int = 1000
    ) -> list[EventMessage]:
        """Return, on an event loop, what `history` returns."""
        return await self._client.history.history_async(self._api_name, self._name, start, stop, limit=limit)

    def lag(self, listener_name: str) -> int:
        """
        Return how many events a listener of this service, by its name, has not handled yet, over all publishers.

        Raises UnknownListener where no publisher has ever seen its group, EventNotFound where there is no such event.
        """
        return self._client.history.lag(self._api_name, listener_name, self._name)

    async def lag_async(self, listener_name: str) -> int:
        """Return, on an event loop, how many events a listener of this service has not handled yet."""
        return await self._client.history.lag_async(self._api_name, listener_name, self._name)

    # Schemas

    @property
    def parameter_schema(self) -> JsonSchema:
        """The JSON Schema of the arguments. Raises SchemaNotFound."""
        return self._client.names.parameter_schema(self._api_name, self._name)

    @property
    def response_schema(self) -> JsonSchema | None:
        """The JSON Schema of the result; None where nothing is said of it. Raises SchemaNotFound."""
        return self._client.names.response_schema(self._api_name, self._name)

    def validate_parameters(self, parameters: dict[str, Any]) -> None:
        """Raise ValidationError where the arguments do not satisfy the schema."""
        schema = self._client.names.schema_of(self._api_name, f"{self._name}.validate_parameters(...)")
        schema.validate_parameters(self._api_name, self._name, parameters)

    def validate_response(self, response: Any) -> None:
        """Raise ValidationError where the result does not satisfy the schema."""
        schema = self._client.names.schema_of(self._api_name, f"{self._name}.validate_response(...)")
        schema.validate_response(self._api_name, self._name, response)

    def _check(self, args: tuple[Any, ...], error: type[Exception]) -> None:
        if args or not self._api_name:
            raise _refusal(self._parts, len(args), error)


def _refusal(parts: tuple[str, ...], positional: int, error: type[Exception]) -> Exception:
    """Return why a path of these parts, given so many arguments by position, can be neither called nor fired."""
    path = ".".join(("bus", *parts))
    if len(parts) < SHORTEST:
        return InvalidName(f"{path} cannot be called. Name the API and the procedure: bus.auth.check_password()")
    *api, name = parts
    if len(parts) == SHORTEST and name in OF_MEMBERS:
        return InvalidName(
            f"'{api[0]}' is no event and no procedure. Name the API and what you mean of it: "
            f"bus.{api[0]}.user_registered.{name}(...)"
        )
    return error(
        f"{'.'.join(parts)} was given {positional} argument(s) by position. On the bus arguments have names: "
        f"{path}(name=value)"
    )
