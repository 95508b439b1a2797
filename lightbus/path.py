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

MOST_KEPT = 1000
"""The most names below a path that are kept: a program may take them from others, as a gateway does."""


class BusPath(PathNames):
    """
    A path on the bus. `lightbus.create()` returns the root; each attribute adds a part.

    The last part is the name of a procedure or an event, the parts before it are the name of the API.
    Arguments are given by name only. Paths of two parts or more have `call`, `fire`, `listen` and the other methods; in
    shorter paths these are ordinary names: `bus.orders.history(...)` calls a procedure of that name.
    """

    __slots__ = ("__dict__", "__weakref__", "_client")

    def __init__(self, client: BusClient, parts: tuple[str, ...] = ()) -> None:
        super().__init__(parts)
        self._client = client
        if len(parts) < SHORTEST:  # instance attributes hide the methods of the class
            self.__dict__.update({name: self._at((*parts, name)) for name in OF_MEMBERS})

    # Names

    def __getattr__(self, name: str) -> BusPath:
        if name.startswith("_"):
            raise AttributeError(f"Names on the bus do not begin with an underscore: '{name}'.")
        child = self._at((*self._parts, name))
        if len(self.__dict__) < MOST_KEPT:
            self.__dict__[name] = child  # the next look-up does not come here
        return child

    def _at(self, parts: tuple[str, ...]) -> Self:
        return type(self)(self._client, parts)

    def __dir__(self) -> list[str]:
        """Return the possible next parts: the methods, and the names known on the bus at the moment."""
        return sorted({*super().__dir__(), *self._client.names.completions(self._parts)})

    @property
    def client(self) -> BusClient:
        """The client: registering, listening, hooks, schedules, lifecycle. Below the root an ordinary name."""
        return self._client if not self._parts else self._at((*self._parts, "client"))  # type: ignore[return-value]

    @property
    def schema(self) -> Schema:
        """The schemas of the APIs registered or loaded here. Below the root an ordinary name."""
        return self._client.schema if not self._parts else self._at((*self._parts, "schema"))  # type: ignore[return-value]

    # Calling

    def __call__(self, /, *args: Any, bus_options: Any = None, **kwargs: Any) -> Any:
        """
        Call the procedure and return its result; if the path is an event's, fire it and return the EventMessage.

        Args:
            bus_options: `timeout` in seconds, instead of the API's `rpc_timeout`; `version`: the version of the API
                to call; for an event, the options of `fire`.
            kwargs: the arguments.

        Raises:
            CannotBlockHere: inside a running event loop; await `call_async` or `fire_async` there.
            UnknownApi, UnknownProcedure, PeerUnreachable, PeerRefused, PeerBusy: no peer could do it; nothing was done.
            InvalidParameters, ValidationError, DeformError: the arguments are wrong.
            LightbusTimeout, PeerLost: it may or may not have been done.
            LightbusWorkerError: the handler raised.

        """
        if args or not self._api_name:  # checked inline: saves each call a call of `_check`
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
        Fire the event; return it when it is on the disk of a publisher, or of this host until there is a publisher.

        Args:
            bus_options: `timeout` in seconds; `wait_for`: "journal" (the default), or "ack": until every group that
                gets the event has handled it.
            kwargs: the arguments.

        Raises:
            CannotBlockHere: inside a running event loop; await `fire_async` there.
            UnknownApi, EventNotFound, PeerUnreachable, PeerRefused: no peer publishes it.
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

        The events of a list are stored by one commit, all of them or none. Those of a generator are stored a thousand
        at a time, and the next thousand is taken when these are on disk: if one fails, those before it are fired.
        Each publisher commits for itself: where there are several, and this process is none of them, an event with a
        key goes to the publisher of its key, and each publisher stores its share.

        Args:
            events: the arguments of each event, as a dict.
            bus_options: those of `fire`, for all events together (of a generator: for each thousand).

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

        The workers of a service share the events of a listener, including those fired while no worker was running.

        Args:
            listener: takes the EventMessage (unless its first parameter has an argument's name), and the arguments.
            listener_name: names the consumer group; by default the function's dotted name. `{pid}` in it: no group.
            group: the name of the consumer group. None: every process gets every event, while it is connected.
            concurrency: how many partitions of the events are handled concurrently.
            max_deliveries: how often an event is delivered to the group before it is a dead letter (`lightbus dead`).
            bus_options: `since`: where a new group begins: an event's id, a time, "0" (all that is kept), "$" (now).
            on_error: what happens when the listener raises; OnError.STOP_LISTENER by default.
            batch: pass a list of at most so many EventMessages, and nothing else; see `BatchFailed`.
            batch_wait: how many seconds a list that is not full waits for more.

        Raises InvalidEventListener where the listener cannot be called with the event's arguments, and
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
            limit: the most events, from 1 to 1000; fewer are returned where they take more than 16 MiB at a publisher.

        Raises UnknownApi where no peer publishes it, EventNotFound where its API has no such event, InvalidParameters
        for an invalid limit, and what a call raises. Logs a warning about a publisher that does not answer.
        """
        return self._client.history.history(self._api_name, self._name, start, stop, limit=limit)

    async def history_async(
        self, start: datetime | float | None = None, stop: datetime | float | None = None, *, limit: int = 1000
    ) -> list[EventMessage]:
        """Return, on an event loop, what `history` returns."""
        return await self._client.history.history_async(self._api_name, self._name, start, stop, limit=limit)

    def lag(self, listener_name: str) -> int:
        """
        Return how many events a listener of this service, given by name, has not handled yet, over all publishers.

        Raises UnknownListener where no publisher knows its group, EventNotFound where there is no such event.
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
        """The JSON Schema of the result; None where the schema does not describe it. Raises SchemaNotFound."""
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
    """Return the error for calling or firing a path that is too short, or with positional arguments."""
    path = ".".join(("bus", *parts))
    if len(parts) < SHORTEST:
        return InvalidName(f"{path} cannot be called. Name the API and the procedure: bus.auth.check_password()")
    *api, name = parts
    if len(parts) == SHORTEST and name in OF_MEMBERS:
        return InvalidName(
            f"'{api[0]}' is no event and no procedure. Name the API and one of its members: "
            f"bus.{api[0]}.user_registered.{name}(...)"
        )
    return error(
        f"{'.'.join(parts)} was given {positional} argument(s) by position. On the bus arguments have names: "
        f"{path}(name=value)"
    )
