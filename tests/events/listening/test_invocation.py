"""The call of a listener: the message, the arguments, the hooks around it, and its own context."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, feeder, give, given, listener, run, undecided
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import Record


@dataclass
class Point:
    x: int


def test_the_message_and_the_arguments() -> None:
    """The message is the first argument, the others are passed by name."""
    seen: list[Any] = []
    given(lambda event_message, username, age: seen.append((event_message, username, age)), username="sally", age=30)
    [(message, username, age)] = seen
    assert (message.id, message.native_id, message.publisher) == ("id-1", "j-1", "p" * 16)
    assert (username, age) == ("sally", 30)


def test_only_the_message() -> None:
    """A listener may read the arguments from the message."""
    seen: list[Any] = []
    given(lambda event_message: seen.append(event_message), username="sally")
    assert [message.kwargs for message in seen] == [{"username": "sally"}]


def test_listener_with_arguments_only_gets_no_message() -> None:
    """If its first parameter is an argument of the event, the message is not passed."""
    seen: list[Any] = []
    given(lambda username: seen.append(username), username="sally", age=30)
    assert seen == ["sally"]


def test_some_of_the_arguments() -> None:
    """A listener names the arguments that it needs; an event may get more arguments without breaking it."""
    seen: list[Any] = []
    given(lambda m, age, *, username="nobody": seen.append((username, age)), username="sally", age=30, more=1)
    assert seen == [("sally", 30)]


def test_listener_with_kwargs_gets_every_argument() -> None:
    """All arguments of the event are in `**kwargs`."""
    seen: list[Any] = []
    given(lambda m, **kwargs: seen.append(kwargs), username="sally", age=30)
    assert seen == [{"username": "sally", "age": 30}]


def test_keyword_only_arguments() -> None:
    """A listener without a positional parameter gets no message."""
    seen: list[Any] = []
    given(lambda *, username: seen.append(username), username="sally")
    assert seen == ["sally"]


def test_any_positional_argument() -> None:
    """A listener with `*args` gets the message there."""
    seen: list[Any] = []
    given(lambda *args, **kwargs: seen.append((args, kwargs)), username="sally")
    [((message,), kwargs)] = seen
    assert (message.id, kwargs) == ("id-1", {"username": "sally"})


def test_a_bound_method() -> None:
    """`self` is no parameter of the event."""

    class Greeter:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def greet(self, message: EventMessage, username: str) -> None:
            self.seen.append((message.id, username))

    greeter = Greeter()
    given(greeter.greet, username="sally")
    assert greeter.seen == [("id-1", "sally")]


@pytest.mark.parametrize(("casts", "kind"), [(True, Point), (False, dict)])
def test_arguments_are_cast_to_annotations(casts: bool, kind: type) -> None:
    """A map becomes the annotated dataclass, with and without the message; unless casting is off."""
    seen: list[Any] = []

    def with_message(message: EventMessage, point: Point) -> None:
        seen.append(type(point))

    def without_message(point: Point) -> None:
        seen.append(type(point))

    given(with_message, point={"x": 1}, casts=casts)
    given(without_message, point={"x": 1}, casts=casts)
    assert seen == [kind, kind]


def test_a_plain_function_runs_in_a_thread() -> None:
    """A `def` listener does not block the loop, an `async def` one runs on it."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(threading.current_thread().name)

    async def awaited() -> None:
        seen.append(threading.current_thread().name)

    given(plain)
    given(awaited)
    assert seen[0] != seen[1] == threading.current_thread().name


def test_an_unreadable_record_among_others(caplog: pytest.LogCaptureFixture) -> None:
    """Events are decoded together; an unreadable one is skipped by itself, and the others are handled in order."""
    seen: list[int] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        stream = feeder(runner).stream()
        records = [envelope.encode_record(Record(f"id-{n}", 1, 0.5, {"n": n})) for n in range(6)]
        records[2], records[4] = b"\xc1", b""
        assert stream.live([[n, n - 1, record] for n, record in enumerate(records, 1)]) == 6
        runner.queue.ready(stream, 6, stream.size)
        await wait_until_async(lambda: runner.handled == 6)
        assert (seen, runner.queue.counts["invalid"], runner.queue.backlog_bytes) == ([0, 1, 3, 5], 2, 0)

    async def function(n: int) -> None:
        seen.append(n)

    run(function, test)
    assert "at j-3 (partition 0) is not delivered to the listener" in caplog.text


class Unchecked(Context):
    """A process that does not know the API."""

    def check_of(self, api: str, event: str, *, casts: bool = False) -> None:
        return None


@pytest.mark.parametrize(
    ("several", "seen"),
    [
        ([{"n": 1}, {"n": 2}, {"n": 3}], [1, 2, 3]),
        ([{"n": 1}, {"n": "2"}, {"n": 3}], [1, 2, 3]),  # one is cast
        ([{"n": 1}, {"n": 2, "more": 1}, {"n": 3}], [1, 2, 3]),
        ([{"n": 1}, {"m": 2}, {"n": 3}], [1, 3]),  # one does not fit
    ],
)
@pytest.mark.parametrize("takes_message", [True, False])
def test_events_that_are_decoded_together(several: list[dict[str, Any]], seen: list[int], takes_message: bool) -> None:
    """Whether all can be passed unchanged, or each must be checked, they are handled in order."""
    handled: list[int] = []

    async def with_message(message: EventMessage, n: int) -> None:
        assert int(message.kwargs["n"]) == n
        handled.append(n)

    async def without(n: int) -> None:
        handled.append(n)

    async def main() -> None:
        runner = Unchecked().runner(listener(with_message if takes_message else without))
        for kwargs in several:
            give(runner, **kwargs)
        await wait_until_async(lambda: not runner.queue.backlog)
        await runner.stop(1.0)

    asyncio.run(main())
    assert handled == seen


def test_hooks_get_the_event() -> None:
    """Hooks before and after get the event and the listener's name."""
    told: list[Any] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        context.hooks.add("before_event_execution", lambda **details: told.append(("before", details)))
        context.hooks.add("after_event_execution", lambda **details: told.append(("after", details)))
        give(runner)
        await wait_until_async(lambda: runner.handled)
        message = told[0][1]["event_message"]
        details = {"client": "the client", "event_message": message, "listener_name": "greeter"}
        assert told == [("before", details), ("handler", message.id), ("after", details)]

    run(lambda message: told.append(("handler", message.id)), test)


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def forgetful(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with an `async def` that does not await the function."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def forgetful_later(function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    return wrapper


class Object:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    async def __call__(self, message: EventMessage, n: int) -> None:
        await self.function(message, n)


FORMS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "async def": lambda function: function,
    "decorated": undecided,
    "async def that does not await": forgetful,
    "async def that does not await, later": forgetful_later,
    "lambda": lambda function: lambda message, n: function(message, n),
    "partial": lambda function: functools.partial(lambda tag, message, n: function(message, n), "tag"),
    "object": Object,
    "partial of an object": lambda function: functools.partial(Object(function)),
    "method": lambda function: Object(function).__call__,
    "future": lambda function: undecided(lambda message, n: Promise(function(message, n))),
}


class Promise:
    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Any:
        return self.coroutine.__await__()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hooked", [False, True])
def test_the_result_of_a_listener_is_awaited(form: str, hooked: bool) -> None:
    """An event counts as handled when the awaitable that the listener returned has ended, and not before."""
    gate, seen = asyncio.Event(), list[int]()

    async def function(message: EventMessage, n: int) -> None:
        seen.append(n)
        await gate.wait()
        seen.append(-n)

    async def test(runner: ListenerRunner, context: Context) -> None:
        if hooked:
            context.hooks.add("before_event_execution", lambda: None)
        give(runner, n=1)
        await wait_until_async(lambda: seen)
        assert (seen, runner.handled) == ([1], 0)
        gate.set()
        await wait_until_async(lambda: runner.handled)
        assert (seen, runner.queue.counts["failed"]) == ([1, -1], 0)

    run(FORMS[form](function), test)


def make_listener(form: str, seen: list[str]) -> Callable[..., Any]:
    """Return a listener that reports its present tenant, and then sets another one."""

    def handle(n: int) -> None:
        seen.append(TENANT.get())
        TENANT.set(f"left by {n}")

    async def handle_at_once(message: EventMessage, n: int) -> None:
        handle(n)

    async def handle_later(message: EventMessage, n: int) -> None:
        await asyncio.sleep(0)
        handle(n)
        await asyncio.sleep(0)

    def handle_in_thread(message: EventMessage, n: int) -> None:
        handle(n)

    forms = {"at once": handle_at_once, "later": handle_later, "def": handle_in_thread}
    return forms[form] if form in forms else undecided(handle_later)


LISTENERS = ["at once", "later", "def", "hidden"]


@pytest.mark.parametrize("form", LISTENERS)
def test_each_event_has_its_own_context(form: str) -> None:
    """A context variable that a listener sets is visible to no other event or code."""
    seen: list[str] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        TENANT.set("whoever gives")
        for n in range(4):
            give(runner, n=n)
        await wait_until_async(lambda: runner.handled == 4)
        assert TENANT.get() == "whoever gives"

    run(make_listener(form, seen), test)
    assert seen == ["nobody"] * 4


@pytest.mark.parametrize("form", LISTENERS)
@pytest.mark.parametrize("before_is_async", [False, True])
def test_hooks_share_the_context_of_the_event(form: str, before_is_async: bool) -> None:
    """A hook's value is visible to the listener, and the listener's to the hook after it; for `def` and `async def`."""
    seen: list[str] = []

    def before(event_message: EventMessage) -> None:
        seen.append(TENANT.get())
        TENANT.set(f"tenant {event_message.kwargs['n']}")

    async def before_async(event_message: EventMessage) -> None:
        before(event_message)

    async def test(runner: ListenerRunner, context: Context) -> None:
        context.hooks.add("before_event_execution", before_async if before_is_async else before)
        context.hooks.add("after_event_execution", lambda: seen.append(TENANT.get()))
        for n in range(2):
            give(runner, n=n)
        await wait_until_async(lambda: runner.handled == 2)

    run(make_listener(form, seen), test)
    assert seen == ["nobody", "tenant 0", "left by 0", "nobody", "tenant 1", "left by 1"]


def test_a_generator_function_as_listener(caplog: pytest.LogCaptureFixture) -> None:
    """A call runs nothing of it: it fails, and is not acknowledged as if it had run."""

    def function(message: EventMessage, n: int) -> Any:
        yield n

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, n=0)
        await wait_until_async(lambda: runner.handled)
        assert runner.queue.counts["failed"] == 1

    run(function, test)
    assert "has a `yield` in it, so that calling it runs nothing of it" in caplog.text


@pytest.mark.parametrize("name", ["function", "self", "message", "kwargs", "args", "timeout", "loop", "executor"])
@pytest.mark.parametrize("is_async", [False, True])
def test_arguments_with_any_name(name: str, is_async: bool) -> None:
    """No name of an argument conflicts with our own."""
    seen: list[Any] = []
    scope: dict[str, Any] = {"seen": seen}
    exec(f"{'async ' if is_async else ''}def handle(event_message, {name}): seen.append({name})", scope)
    given(scope["handle"], **{name: 5})
    assert seen == [5]
