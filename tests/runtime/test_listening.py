"""A listener and its work: what it is given, and what happens when it raises."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from helpers import MS, wait_until_async
from lightbus.exceptions import InvalidDeclaration, ValidationError
from lightbus.message import EventMessage
from lightbus.runtime import listening as module
from lightbus.runtime.listening import Listener, Listening, OnError, accepts_message
from lightbus.service.hooks import HookRegistry


@dataclass
class Point:
    x: int


class Surroundings:
    """What a listening needs of its consumer, with a memory."""

    def __init__(self, casts: bool = True) -> None:
        self.hooks = HookRegistry()
        self.client: Any = "the client"
        self.fatal: list[tuple[str, Exception]] = []
        self.caught_up_count = 0
        self.call_sync: Callable[..., Any] = self._call_sync
        self.on_fatal: Callable[[Listener, Exception], None] = self._on_fatal
        self._casts = casts

    async def _call_sync(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(None, call)

    def _on_fatal(self, listener: Listener, error: Exception) -> None:
        self.fatal.append((listener.name, error))

    def casts(self, api: str) -> bool:
        return self._casts

    def incoming(self, message: EventMessage) -> dict[str, Any]:
        if "invalid" in message.kwargs:
            raise ValidationError("it is invalid")
        return message.kwargs

    def caught_up(self) -> None:
        self.caught_up_count += 1


def event(which: int = 1, /, **kwargs: Any) -> EventMessage:
    """Return an event."""
    return EventMessage(api_name="auth", event_name="seen", kwargs=kwargs, id=f"id-{which}")


def listener(function: Callable[..., Any], on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG) -> Listener:
    """Return a listener of auth.seen."""
    return Listener(api="auth", events=("seen",), name="greeter", function=function, on_error=on_error)


def run(
    function: Callable[..., Any],
    test: Callable[[Listening, Surroundings], Awaitable[None]],
    on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG,
    **options: Any,
) -> None:
    """Run a test with a listener at work, and stop it."""

    async def main() -> None:
        surroundings = Surroundings(**options)
        listening = Listening(surroundings, listener(function, on_error))
        await test(listening, surroundings)
        await listening.stop(5.0)

    asyncio.run(main())


def given(function: Callable[..., Any], message: EventMessage, **options: Any) -> None:
    """Have a listener handle one event."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        listening.give(message)
        await wait_until_async(lambda: listening.handled)
        assert listening.counts["failed"] == 0

    run(function, test, **options)


# What it is given


def test_the_message_and_the_arguments() -> None:
    """The message goes first, the arguments by name."""
    seen: list[Any] = []
    message = event(username="sally", age=30)
    given(lambda event_message, username, age: seen.append((event_message, username, age)), message)
    assert seen == [(message, "sally", 30)]


def test_only_the_message() -> None:
    """A listener may leave the arguments in the message."""
    seen: list[Any] = []
    message = event(username="sally")
    given(lambda event_message: seen.append(event_message), message)
    assert seen == [message]


def test_only_arguments() -> None:
    """A listener whose first parameter is an argument of the event is not given the message."""
    seen: list[Any] = []
    given(lambda username: seen.append(username), event(username="sally", age=30))
    assert seen == ["sally"]


def test_some_of_the_arguments() -> None:
    """A listener names what it wants; an event may get further arguments without breaking it."""
    seen: list[Any] = []
    given(lambda m, age, *, username="nobody": seen.append((username, age)), event(username="sally", age=30, more=1))
    assert seen == [("sally", 30)]


def test_all_arguments() -> None:
    """A listener with `**kwargs` is given every argument."""
    seen: list[Any] = []
    given(lambda m, **kwargs: seen.append(kwargs), event(username="sally", age=30))
    assert seen == [{"username": "sally", "age": 30}]


def test_keyword_only_arguments() -> None:
    """A listener without a positional parameter is given no message."""
    seen: list[Any] = []
    given(lambda *, username: seen.append(username), event(username="sally"))
    assert seen == ["sally"]


def test_any_positional_argument() -> None:
    """A listener with `*args` is given the message there."""
    seen: list[Any] = []
    message = event(username="sally")
    given(lambda *args, **kwargs: seen.append((args, kwargs)), message)
    assert seen == [((message,), {"username": "sally"})]


def test_a_bound_method() -> None:
    """`self` is no parameter of the event's."""

    class Greeter:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def greet(self, message: EventMessage, username: str) -> None:
            self.seen.append((message.id, username))

    greeter = Greeter()
    given(greeter.greet, event(username="sally"))
    assert greeter.seen == [("id-1", "sally")]


@pytest.mark.parametrize(("casts", "kind"), [(True, Point), (False, dict)])
def test_arguments_become_what_is_annotated(casts: bool, kind: type) -> None:
    """A map becomes the dataclass the parameter says, with and without the message; unless casting is off."""
    seen: list[Any] = []

    def with_message(message: EventMessage, point: Point) -> None:
        seen.append(type(point))

    def without_message(point: Point) -> None:
        seen.append(type(point))

    given(with_message, event(point={"x": 1}), casts=casts)
    given(without_message, event(point={"x": 1}), casts=casts)
    assert seen == [kind, kind]


def test_a_plain_function_runs_in_a_thread() -> None:
    """A `def` listener does not block the loop, an `async def` one runs on it."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(threading.current_thread().name)

    async def awaited() -> None:
        seen.append(threading.current_thread().name)

    given(plain, event())
    given(awaited, event())
    assert seen[0] != seen[1] == threading.current_thread().name


def test_an_object_with_an_async_call() -> None:
    """What is awaitable is told by how it is called."""

    class Greeter:
        async def __call__(self, message: EventMessage) -> None: ...

    assert listener(Greeter()).is_async
    assert not listener(lambda: None).is_async


@pytest.mark.parametrize(
    ("function", "first"),
    [
        (lambda event_message, x: None, "event_message"),
        (lambda *messages: None, "*messages"),
        (lambda *, x: None, None),
        (lambda **kwargs: None, None),
        (lambda: None, None),
    ],
)
def test_where_the_message_goes(function: Callable[..., Any], first: str | None) -> None:
    """It is the first parameter that can be given by position."""
    assert accepts_message(function) == first


def test_positional_only_parameters_are_refused() -> None:
    """The error says what to remove."""

    def function(message: EventMessage, /) -> None: ...

    async def main() -> None:
        with pytest.raises(InvalidDeclaration, match="Remove the '/'"):
            Listening(Surroundings(), listener(function))

    asyncio.run(main())


def test_a_listener_is_named_in_a_log() -> None:
    """Its name, and what it listens to."""
    both = Listener(api="auth", events=("seen", "gone"), name="greeter", function=print)
    assert str(both) == "greeter of auth.seen, auth.gone"


# Its work


def test_events_are_handled_in_order() -> None:
    """One at a time, whatever each takes; the rest of the loop gets its turn between them."""
    seen: list[int] = []

    async def function(number: int) -> None:
        if number % 7 == 0:
            await asyncio.sleep(0)
        seen.append(number)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in range(200):
            listening.give(event(number=number))
        assert listening.backlog == 200
        turns = 0
        while listening.handled < 200:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 200 // module.FAIR_SHARE
        assert seen == list(range(200))
        assert listening.backlog == 0

    run(function, test)


def test_it_tells_when_it_has_caught_up() -> None:
    """Each time nothing is left to do, whoever feeds it is told, and it is not slow any more."""

    async def function(number: int) -> None: ...

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        await wait_until_async(lambda: surroundings.caught_up_count == 1)
        listening.is_slow = True
        listening.give(event(number=1))
        listening.give(event(number=2))
        await wait_until_async(lambda: surroundings.caught_up_count == 2)
        assert not listening.is_slow

    run(function, test)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A slow listener holds only so many events; the others are dropped, counted and reported, and not each of them."""
    monkeypatch.setattr(module, "MAX_QUEUED", 5)
    seen: list[int] = []

    async def function(number: int) -> None:
        seen.append(number)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in range(17):
            listening.give(event(number=number))
        assert listening.counts["dropped"] == 12
        await wait_until_async(lambda: len(seen) == 5)
        assert seen == [0, 1, 2, 3, 4]
        assert [record.args[1:] for record in caplog.records if isinstance(record.args, tuple)] == [(5, 1), (5, 10)]

    run(function, test)


def test_hooks_are_told() -> None:
    """Hooks before and after get the event and the listener's name."""
    told: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        surroundings.hooks.add("before_event_execution", lambda **details: told.append(("before", details)))
        surroundings.hooks.add("after_event_execution", lambda **details: told.append(("after", details)))
        message = event()
        listening.give(message)
        await wait_until_async(lambda: listening.handled)
        details = {"client": "the client", "event_message": message, "listener_name": "greeter"}
        assert told == [("before", details), ("handler", message.id), ("after", details)]

    run(lambda message: told.append(("handler", message.id)), test)


# What goes wrong


async def fail(message: EventMessage) -> None:
    raise ValueError("no luck")


@pytest.mark.parametrize("policy", [OnError.ACKNOWLEDGE_AND_LOG, OnError.SHUTDOWN])
def test_an_error_is_logged(policy: OnError, caplog: pytest.LogCaptureFixture) -> None:
    """The next event is handled all the same; with SHUTDOWN whoever runs the worker is told."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2):
            listening.give(event(number))
        await wait_until_async(lambda: listening.handled == 2)
        assert dict(listening.counts) == {"failed": 2}
        assert "The listener greeter failed on <EventMessage auth.seen() id=id-1>" in caplog.text
        assert "no luck" in caplog.text
        fatal = [(name, str(error)) for name, error in surroundings.fatal]
        assert fatal == ([("greeter", "no luck")] * 2 if policy is OnError.SHUTDOWN else [])

    run(fail, test, policy)


def test_a_retry_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RETRY the event is given again, and says so; the next one waits for it."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)
    seen: list[tuple[str, int, bool]] = []

    async def function(message: EventMessage) -> None:
        seen.append((message.id, message.deliveries, message.redelivered))
        if message.id == "id-1" and message.deliveries < 3:
            raise ValueError("not yet")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        listening.give(event(1))
        listening.give(event(2))
        await wait_until_async(lambda: listening.handled == 2)
        assert seen == [("id-1", 1, False), ("id-1", 2, True), ("id-1", 3, True), ("id-2", 1, False)]
        assert dict(listening.counts) == {"failed": 2, "retried": 2}

    run(function, test, OnError.RETRY)


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisonous event is given up after five deliveries, and holds nothing up for ever."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        message = event(1)
        listening.give(message)
        await wait_until_async(lambda: listening.handled == 1)
        assert message.deliveries == module.MAX_DELIVERIES == 5
        assert dict(listening.counts) == {"failed": 5, "retried": 4}
        assert surroundings.fatal == []

    run(fail, test, OnError.RETRY)


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("error", [asyncio.CancelledError("mine"), SystemExit(3)])
def test_what_would_end_a_task_is_an_error_like_others(where: str, error: BaseException) -> None:
    """A handler's own CancelledError or SystemExit ends neither the listener, unnoticed, nor the loop."""

    def in_thread(message: EventMessage) -> None:
        raise error

    async def on_loop(message: EventMessage) -> None:
        raise error

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2):
            listening.give(event(number))
        await wait_until_async(lambda: listening.handled == 2)
        assert [str(fatal) for _, fatal in surroundings.fatal] == [
            f"greeter raised {type(error).__name__}: {error}"
        ] * 2

    run(on_loop if where == "loop" else in_thread, test, OnError.SHUTDOWN)


def test_invalid_arguments_are_not_the_handlers_fault() -> None:
    """What the event's declaration does not allow never reaches the handler, and stops no worker."""
    seen: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        listening.give(event(invalid=1))
        await wait_until_async(lambda: listening.handled)
        assert (seen, dict(listening.counts), surroundings.fatal) == ([], {"invalid": 1}, [])

    run(lambda message: seen.append(message), test)


# The end


def test_stopping_finishes_the_event_at_hand() -> None:
    """What is being handled is finished, what waits is not begun."""
    gate, seen = asyncio.Event(), list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        await gate.wait()
        seen.append("done")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2, 3):
            listening.give(event(number))
        await wait_until_async(lambda: seen)
        stopping = asyncio.ensure_future(listening.stop(5.0))
        await asyncio.sleep(0)
        gate.set()
        await stopping
        assert seen == ["id-1", "done"]

    run(function, test)


def test_stopping_is_bounded() -> None:
    """A handler that does not end is cancelled."""
    seen: list[str] = []

    async def function(message: EventMessage) -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        listening.give(event())
        await wait_until_async(lambda: seen)
        await listening.stop(1 * MS)
        assert seen == ["begun", "cancelled"]
        assert surroundings.fatal == []

    run(function, test, OnError.SHUTDOWN)


def test_stopping_does_not_wait_for_a_retry() -> None:
    """A pause before the next delivery ends with the listener."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        listening.give(event())
        await wait_until_async(lambda: listening.counts["retried"])
        await asyncio.wait_for(listening.stop(30.0), module.FIRST_BACKOFF / 2)
        assert listening.counts["failed"] == 1

    run(fail, test, OnError.RETRY)


def test_stopping_an_idle_listener() -> None:
    """Where nothing is being handled, it is over at once."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        await wait_until_async(lambda: surroundings.caught_up_count)

    run(fail, test)
