"""The mock: expected calls and events with their results, recorded ones, and assertions. Knows nothing of clients."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextvars import Context
from typing import Any, TypeGuard, TypeVar

from ..exceptions import InvalidName, LightbusWorkerError, UnsupportedUse
from ..keywords import also_named
from ..message import EventMessage, RpcMessage
from ..service.api import ApiRegistry

__all__ = ["BusMock", "NotMocked"]

M = TypeVar("M", RpcMessage, EventMessage)

_of_event = also_named(full_event_name="name")
_of_call = also_named(full_rpc_name="name")
"""The name of the first argument in 1.x."""


class NotMocked(AssertionError):
    """A call was made, or an event fired, that the test did not mock. The message has the line of code to add."""


class BusMock:
    """
    The mock of `with bus_mocker(bus) as mock:`: set what to expect, then check what happened.

    Names are written in full: "auth.check_password". Any thread may use it. Every assertion raises AssertionError.

    Args:
        apis: the APIs registered on the bus; mocking a member that they do not have is refused.
        require_mocking: whether calls and events that were not mocked raise NotMocked.

    """

    def __init__(self, apis: ApiRegistry, *, require_mocking: bool = True) -> None:
        self._apis = apis
        self._require_mocking = require_mocking
        self._lock = threading.Lock()  # guards the attributes below
        self._results: dict[str, Any] = {}
        self._events: set[str] = set()
        self._calls: list[RpcMessage] = []
        self._fired: list[EventMessage] = []
        self._given: Counter[tuple[str, str | None]] = Counter()

    def __repr__(self) -> str:
        return f"<BusMock: {len(self._calls)} calls, {len(self._fired)} events>"

    # What to expect

    @_of_call
    def mock_rpc_call(
        self, name: str, result: Any = None, *, error: bool = False, trace: str = "", **of_message: Any
    ) -> None:
        """
        Allow a procedure to be called, and answer with `result`; a later mock of the same name replaces it.

        Args:
            name: "auth.check_password".
            result: the value to return. A function is called with the arguments, by name, in the caller's thread or on
                its loop, and its result is returned; it may be `async def`, and has its own context, like a handler.
                An exception, or an exception class, is raised: an error of Lightbus unchanged, any other as the
                LightbusWorkerError that a handler's exception would become.
            error: the handler fails: `result` is the text of its LightbusWorkerError, or the exception it raises.
            trace: the traceback of that error.
            of_message: further arguments of 1.x for the result message: refused, since the mock makes the message.

        Raises:
            InvalidName: the name has no dot.
            UnknownProcedure: the API is registered here, and has no such procedure.
            UnsupportedUse: an unknown argument was given.

        """
        if of_message:
            raise UnsupportedUse(
                f"mock_rpc_call() has no argument '{next(iter(of_message))}': the mock makes the result's message. "
                "It has: name, result, error, trace."
            )
        api_name, procedure = _parts(name)
        api = self._apis.find(api_name)
        if api is not None:
            api.get_procedure(procedure)
        if error and not _is_exception(result):
            result = LightbusWorkerError(f"{name} failed: {result}", trace=trace, peer="mock")
        with self._lock:
            self._results[name] = result

    @_of_event
    def mock_event_firing(self, name: str) -> None:
        """
        Allow an event to be fired.

        Raises:
            InvalidName: the name has no dot.
            EventNotFound: the API is registered here, and has no such event.

        """
        api_name, event = _parts(name)
        api = self._apis.find(api_name)
        if api is not None:
            api.get_event(event)
        with self._lock:
            self._events.add(name)

    @property
    def mocked_events(self) -> frozenset[tuple[str, str]]:
        """`(API, event)` of the mocked events."""
        with self._lock:
            return frozenset(_parts(name) for name in self._events)

    # What happened: events

    @property
    def event_messages(self) -> list[EventMessage]:
        """The events fired, in order."""
        return self.get_event_messages()

    @property
    def event_names_fired(self) -> list[str]:
        """The names of the events fired, in order."""
        return [message.canonical_name for message in self.event_messages]

    @_of_event
    def get_event_messages(self, name: str | None = None) -> list[EventMessage]:
        """Return the events fired, those of `name` or all, in order."""
        with self._lock:
            return _named(self._fired, name)

    def get_next_event(self, name: str | None = None) -> EventMessage:
        """Return the first fired event, of `name` or of all; at the next call the second one, and so on."""
        return self._next("event", self._fired, name)

    @_of_event
    def assert_events_fired(self, name: str, *, times: int | None = None) -> None:
        """Assert that an event was fired, `times` times where that is given."""
        _assert_times("Event", "fired", name, times, self.event_names_fired)

    @_of_event
    def assert_event_not_fired(self, name: str) -> None:
        """Assert that an event was not fired."""
        self.assert_events_fired(name, times=0)

    # What happened: calls

    @property
    def rpc_messages(self) -> list[RpcMessage]:
        """The calls made, in order."""
        return self.get_rpc_messages()

    @property
    def rpc_names_called(self) -> list[str]:
        """The names of the procedures called, in order."""
        return [message.canonical_name for message in self.rpc_messages]

    @_of_call
    def get_rpc_messages(self, name: str | None = None) -> list[RpcMessage]:
        """Return the calls made, those of `name` or all, in order."""
        with self._lock:
            return _named(self._calls, name)

    def get_next_rpc(self, name: str | None = None) -> RpcMessage:
        """Return the first call made, of `name` or of all; the next time the second one, and so on."""
        return self._next("call", self._calls, name)

    @_of_call
    def assert_rpc_called(self, name: str, *, times: int | None = None) -> None:
        """Assert that a procedure was called, `times` times where that is given."""
        _assert_times("Procedure", "called", name, times, self.rpc_names_called)

    @_of_call
    def assert_rpc_not_called(self, name: str) -> None:
        """Assert that a procedure was not called."""
        self.assert_rpc_called(name, times=0)

    # Aliases: the names in 1.x

    mockRpcCall = mock_rpc_call
    mockEventFiring = mock_event_firing
    getEventMessages = get_event_messages
    eventNamesFired = event_names_fired
    assertEventFired = assert_events_fired
    assertEventNotFired = assert_event_not_fired
    getRpcMessages = get_rpc_messages
    rpcNamesCalled = rpc_names_called
    assertRpcCalled = assert_rpc_called
    assertRpcNotCalled = assert_rpc_not_called

    # Called by the mocked engine

    def take_call(self, message: RpcMessage, context: Context) -> Any:
        """
        Record a call, and return its result, or an awaitable of it. Raises NotMocked, or the mocked exception.

        A function is called in `context`, not in the caller's context, which a handler would not see either.
        """
        name = message.canonical_name
        with self._lock:
            if self._require_mocking and name not in self._results:
                raise NotMocked(
                    f"{name} was called, and is not mocked. Add before it: mock.mock_rpc_call({name!r}, result=...), "
                    f"or, where it is an event: mock.mock_event_firing({name!r})"
                )
            result = self._results.get(name)
            self._calls.append(message)
        if _is_exception(result):
            raise result
        return context.run(result, **message.kwargs) if callable(result) else result

    def take_event(self, message: EventMessage) -> None:
        """Record an event. Raises NotMocked."""
        name = message.canonical_name
        with self._lock:
            if name.startswith("internal.") and name not in self._events:
                return  # fired by a plugin that monitors the program, which is not what the test is about
            if self._require_mocking and name not in self._events:
                raise NotMocked(f"{name} was fired, and is not mocked. Add before it: mock.mock_event_firing({name!r})")
            self._fired.append(message)

    def _next(self, what: str, messages: Sequence[M], name: str | None) -> M:
        with self._lock:
            found, given = _named(messages, name), self._given[what, name]
            self._given[what, name] += 1
        if given >= len(found):
            raise AssertionError(f"There is no further {what}{f' {name}' if name else ''}: there were {len(found)}.")
        return found[given]


def _is_exception(result: Any) -> TypeGuard[BaseException | type[BaseException]]:
    return isinstance(result, BaseException) or (isinstance(result, type) and issubclass(result, BaseException))


def _parts(name: str) -> tuple[str, str]:
    api_name, _, member = name.rpartition(".")
    if not api_name:
        raise InvalidName(f"'{name}' names no API. Write the full name, as 'auth.check_password'.")
    return api_name, member


def _named(messages: Sequence[M], name: str | None) -> list[M]:
    return [message for message in messages if name is None or message.canonical_name == name]


def _assert_times(kind: str, done: str, name: str, times: int | None, names: list[str]) -> None:
    found = names.count(name)
    if found == times or (times is None and found):
        return
    expected = "at least once" if times is None else f"{times} times"
    others = ", ".join(f"{other} ({count})" for other, count in Counter(names).items()) or "nothing"
    raise AssertionError(f"{kind} {name} was {done} {found} times, not {expected}. What was {done}: {others}.")
