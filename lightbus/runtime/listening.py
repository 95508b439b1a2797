"""A listener and its work: which function is called for an event, with what, and what happens when it raises."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ..exceptions import LightbusException
from ..message import EventMessage
from ..service.hooks import HookRegistry
from ..service.parameters import Parameter, of_function
from ..service.signature import Signature
from ..typing import Kwargs

__all__ = ["Listener", "Listening", "OnError", "Surroundings", "wants_beyond"]

logger = logging.getLogger("lightbus.consuming")

MAX_QUEUED = 10_000
"""Events that wait for one slow listener before further ones are dropped, counted and reported."""

FAIR_SHARE = 64
"""Events handled without pause before the rest of the loop gets its turn."""

MAX_DELIVERIES = 5
FIRST_BACKOFF = 1.0


class OnError(Enum):
    """What happens when a listener's handler raises."""

    SHUTDOWN = "shutdown"
    """Stop the worker (upstream's default): a human has to look."""
    ACKNOWLEDGE_AND_LOG = "acknowledge_and_log"
    """Log it, and go on with the next event."""
    RETRY = "retry"
    """Try the event again after a pause that doubles, up to five times in all; then log it and go on."""


def accepts_message(function: Callable[..., Any]) -> str | None:
    """Return the name of the first positional parameter, where the EventMessage goes; None where there is none."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            return "*" + parameter.name
    return None


def wants_beyond(function: Callable[..., Any], names: Container[str]) -> str | None:
    """Return the first argument that a function must be given and that is none of `names`, nor the EventMessage."""
    first = accepts_message(function)
    for parameter in inspect.signature(function).parameters.values():
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if by_name and parameter.default is parameter.empty and parameter.name != first and parameter.name not in names:
            return parameter.name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    A function that is called for events.

    Attributes:
        api, events: what it listens to; the event `"*"` means all of the API.
        name: with the service's name it is the consumer group.
        function: `def` or `async def`; is given the EventMessage first (unless its first parameter has the name of
            an argument), and the arguments by name.
        on_error: what happens when it raises.

    """

    api: str
    events: tuple[str, ...]
    name: str
    function: Callable[..., Any]
    on_error: OnError = OnError.SHUTDOWN

    @property
    def is_async(self) -> bool:
        """Whether it is run on the loop and not in a thread."""
        function = self.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        )

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(f'{self.api}.{event}' for event in self.events)}"


def _signatures(listener: Listener) -> tuple[Signature, Signature]:
    """Return what the handler takes besides the message, and what it takes where it is not given the message."""
    parameters, _ = of_function(listener.function, label=listener.name, namespace={})

    def signature(taken: Iterable[Parameter]) -> Signature:
        return Signature(kind="Event", api_name=listener.api, name=listener.name, parameters=taken)

    first = accepts_message(listener.function)
    return signature(p for p in parameters if p.name != first), signature(parameters)


class Surroundings(Protocol):
    """What a listener at work needs of the consumer it belongs to."""

    hooks: HookRegistry
    client: Any
    call_sync: Callable[..., Any]
    on_fatal: Callable[[Listener, Exception], None]

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""

    def incoming(self, message: EventMessage) -> Kwargs:
        """Return the arguments of an event, complete and checked. Raises ValidationError."""

    def caught_up(self) -> None:
        """Take in that a listener has nothing left to do."""


class Listening:
    """A listener at work: one event at a time, in order. Only touched from the node's loop."""

    def __init__(self, surroundings: Surroundings, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()
        """failed, retried, dropped, invalid."""
        self.handled = 0
        self.handled_by: Counter[str] = Counter()
        """The same by event."""
        self.is_slow = False
        """Whether it did not keep up lately, and is no longer waited for."""
        self._surroundings = surroundings
        self._hooks = surroundings.hooks
        self._casts = surroundings.casts(listener.api)
        self._queue: deque[EventMessage] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._stop = asyncio.Event()
        self._is_async = listener.is_async
        self._first = accepts_message(listener.function)
        parameters = inspect.signature(listener.function).parameters.values()
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._names = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        self._with_message, self._without_message = _signatures(listener)
        self._task = asyncio.get_running_loop().create_task(self._work())

    def give(self, message: EventMessage) -> None:
        """Queue an event."""
        if len(self._queue) >= MAX_QUEUED:
            self._drop()
            return
        self._queue.append(message)
        if not self._wake.is_set():
            self._wake.set()

    @property
    def backlog(self) -> int:
        """How many events wait."""
        return len(self._queue)

    async def stop(self, seconds: float) -> None:
        """Finish the event being handled, at most so long, and stop."""
        if self._queue:
            self.counts["dropped"] += len(self._queue)
            logger.warning("The listener %s stops: %d events that waited are dropped", self.listener, len(self._queue))
        self._queue.clear()
        self._stopping = True
        self._stop.set()
        self._wake.set()
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    def _drop(self) -> None:
        self.counts["dropped"] += 1
        dropped = self.counts["dropped"]
        if dropped in (1, 10, 100) or dropped % 1000 == 0:
            logger.warning(
                "The listener %s is too slow: %d events wait, %d were dropped", self.listener, len(self._queue), dropped
            )

    async def _work(self) -> None:
        queue = self._queue
        while not self._stopping:
            if not queue:
                self._wake.clear()
                self.is_slow = False
                self._surroundings.caught_up()
                await self._wake.wait()
                continue
            message = queue.popleft()
            await self._handle(message)
            self.handled += 1
            self.handled_by[message.event_name] += 1
            if self.handled % FAIR_SHARE == 0:
                await asyncio.sleep(0)

    async def _handle(self, message: EventMessage) -> None:
        try:
            args, kwargs = self._arguments(message)
        except LightbusException as error:
            # Its sender's mistake, and not the handler's: `on_error` is not asked, and nothing a peer sends stops us.
            self.counts["invalid"] += 1
            logger.error("%r is not given to the listener %s: %s", message, self.listener.name, error)
            return
        try:
            await self._execute(message, args, kwargs)
        except Exception as error:
            await self._failed(message, args, kwargs, error)

    async def _failed(
        self, message: EventMessage, args: tuple[EventMessage, ...], kwargs: Kwargs, error: Exception
    ) -> None:
        backoff = FIRST_BACKOFF
        while await self._again(message, error, backoff):
            backoff *= 2
            message.deliveries += 1
            try:
                await self._execute(message, args, kwargs)
            except Exception as another:
                error = another
            else:
                return

    async def _again(self, message: EventMessage, error: Exception, backoff: float) -> bool:
        policy = self.listener.on_error
        self.counts["failed"] += 1
        logger.error("The listener %s failed on %r", self.listener.name, message, exc_info=error)
        if policy is OnError.RETRY and message.deliveries < MAX_DELIVERIES and not self._stopping:
            self.counts["retried"] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), backoff)
            return not self._stopping
        if policy is OnError.SHUTDOWN:
            self._surroundings.on_fatal(self.listener, error)
        return False

    def _arguments(self, message: EventMessage) -> tuple[tuple[EventMessage, ...], Kwargs]:
        """Return what the handler is called with. Raises ValidationError where that does not fit its annotations."""
        kwargs = self._surroundings.incoming(message)
        takes_message = self._first is not None and self._first not in kwargs
        if not self._takes_all and not self._names >= kwargs.keys():
            kwargs = {name: value for name, value in kwargs.items() if name in self._names}
        if self._casts:
            kwargs = (self._with_message if takes_message else self._without_message).cast(kwargs)
        return (message,) if takes_message else (), kwargs

    async def _execute(self, message: EventMessage, args: tuple[EventMessage, ...], kwargs: Kwargs) -> None:
        if self._hooks.has("before_event_execution"):
            await self._hook("before_event_execution", message)
        try:
            if self._is_async:
                await self.listener.function(*args, **kwargs)
            else:
                await self._surroundings.call_sync(self.listener.function, *args, **kwargs)
        except Exception:
            raise
        except BaseException as error:
            if self._task.cancelling():
                raise
            # The handler's own: it must neither end this task, unnoticed, nor the loop.
            raise RuntimeError(f"{self.listener.name} raised {type(error).__name__}: {error}") from error
        if self._hooks.has("after_event_execution"):
            await self._hook("after_event_execution", message)

    async def _hook(self, name: str, message: EventMessage) -> None:
        surroundings = self._surroundings
        await self._hooks.run(
            name,
            call_sync=surroundings.call_sync,
            client=surroundings.client,
            event_message=message,
            listener_name=self.listener.name,
        )
