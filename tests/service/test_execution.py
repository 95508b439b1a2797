"""Running the user's code: its context, awaitable results, and its errors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
import types
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from helpers import wait_until_async
from lightbus.deadline import Deadline, ServedCall, current_call, current_chain
from lightbus.service.execution import (
    CallersContext,
    Execution,
    check_ran,
    in_thread,
    is_awaitable,
    is_generator,
    name_of,
    never_suspends,
    returns_nothing,
    runs_on_loop,
)

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def run(test: Callable[[Execution], Awaitable[Any]], served: ServedCall | None = None) -> Any:
    """Run a test with an execution on a loop, in a context with a tenant."""

    async def main() -> Any:
        TENANT.set("whoever started the loop")
        return await test(Execution(asyncio.get_running_loop(), None, served))

    return asyncio.run(main())


async def asynchronous(value: int = 1) -> int:
    await asyncio.sleep(0)
    return value


def plain(value: int = 1) -> int:
    return value


def undecided(function: Callable[..., Any]) -> Callable[..., Any]:
    """A usual decorator: it neither checks nor shows whether the function is an `async def`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Called:
    async def __call__(self, value: int = 1) -> int:
        return await asynchronous(value)


class Promise:
    """An awaitable that is no coroutine."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return self.value


async def forgetful(value: int = 1) -> Any:
    """An `async def` around another that does not await it."""
    return asynchronous(value)


def promising(value: int = 1) -> Promise:
    return Promise(value)


THREADS = ThreadPoolExecutor(1)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    global THREADS
    THREADS = ThreadPoolExecutor(1)
    yield
    THREADS.shutdown()


def in_pool(value: int = 1) -> Any:
    return THREADS.submit(plain, value)


FORMS: dict[str, Callable[..., Any]] = {
    "def": plain,
    "async def": asynchronous,
    "decorated": undecided(asynchronous),
    "decorated twice": undecided(undecided(asynchronous)),
    "lambda": lambda value: asynchronous(value),
    "partial": functools.partial(asynchronous),
    "partial of an object": functools.partial(Called()),
    "object": Called(),
    "bound method": Called().__call__,
    "decorated object": undecided(Called()),
    "mock": AsyncMock(side_effect=lambda value: value),
    "awaitable object": promising,
    "async def that does not await": forgetful,
    "decorated async def that does not await": undecided(forgetful),
    "future of a thread": in_pool,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("blocking", [False, True])
def test_awaitable_results_are_awaited(form: str, blocking: bool) -> None:
    """For any form of function: an awaitable result is awaited on the loop before the call is done."""
    function = FORMS[form]

    async def test(execution: Execution) -> int:
        if blocking:
            return await asyncio.to_thread(execution.call_blocking, function, (), {"value": 5})
        result: int = await execution.call(function, (), {"value": 5}, on_loop=runs_on_loop(function))
        return result

    assert run(test) == 5


@pytest.mark.parametrize("blocking", [False, True])
def test_functions_of_an_execution_share_a_context(blocking: bool) -> None:
    """A hook, the handler and another hook, `def` and `async def` in any mix, see what earlier ones have set."""
    seen: list[str] = []
    tokens: list[Token[str]] = []

    def before() -> None:
        tokens.append(TENANT.set("alice"))

    async def more() -> None:
        seen.append(TENANT.get())
        await asyncio.sleep(0)
        TENANT.set(f"{TENANT.get()} of sales")

    def handler() -> None:
        seen.append(TENANT.get())

    async def after() -> None:
        seen.append(TENANT.get())
        TENANT.reset(tokens[0])

    async def test(execution: Execution) -> None:
        assert execution.context.get(TENANT) is None
        for function in (before, more, handler, undecided(more), after):
            if blocking:
                await asyncio.to_thread(execution.call_blocking, function)
            else:
                await execution.call(function, on_loop=runs_on_loop(function))
        assert TENANT.get() == "whoever started the loop"

    run(test)
    assert seen == ["alice", "alice of sales", "alice of sales", "alice of sales of sales"]


def test_tasks_of_a_function_have_its_context() -> None:
    """Tasks that it awaits see what it has set, and change nothing for it."""

    async def sub() -> str:
        seen = TENANT.get()
        TENANT.set("the task's")
        return seen

    async def function() -> list[str]:
        TENANT.set("alice")
        await asyncio.sleep(0)
        return [*await asyncio.gather(sub(), sub()), TENANT.get()]

    assert run(lambda execution: execution.call(function, on_loop=True)) == ["alice"] * 3


def test_deadline_and_chain_of_a_call() -> None:
    """They are those of the served call, also in awaited tasks; after the answer there are none."""
    served = ServedCall(Deadline.in_seconds(2.0), ("a", "b"))

    async def sub() -> tuple[bool, tuple[str, ...]]:
        return Deadline.after(50.0) == served.deadline, current_chain()

    async def test(execution: Execution) -> None:
        async def function() -> Any:
            later.append(asyncio.create_task(left_behind()))
            return await asyncio.gather(sub(), sub())

        async def left_behind() -> Any:
            await answered.wait()
            return await sub()

        answered, later = asyncio.Event(), list[asyncio.Task[Any]]()
        assert await execution.call(function, on_loop=True) == [(True, ("a", "b"))] * 2
        assert await execution.call(lambda: (Deadline.after(50.0) == served.deadline, current_chain()))
        served.end()
        answered.set()
        assert await later[0] == (False, ())

    run(test, served)
    assert current_call.get() is None


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError,
                                  StopAsyncIteration])  # fmt: skip
@pytest.mark.parametrize("form", ["def", "async def", "decorated"])
@pytest.mark.parametrize("blocking", [False, True])
def test_exception_reaches_the_caller_of_an_execution(kind: type[BaseException], form: str, blocking: bool) -> None:
    """The loop continues, and no thread is left waiting."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise kind("oh")

    def fail_at_once() -> None:
        raise kind("oh")

    function = {"def": fail_at_once, "async def": fail, "decorated": undecided(fail)}[form]

    async def test(execution: Execution) -> str:
        try:
            if blocking:
                await in_thread(asyncio.get_running_loop(), None, execution.call_blocking, function)
            else:
                await execution.call(function, on_loop=runs_on_loop(function))
        except BaseException as error:
            return type(error).__name__
        return "nothing"

    assert run(test) in (kind.__name__, "CancelledError")


@pytest.mark.parametrize("function", [lambda: next(iter(())), FORMS["lambda"]], ids=["def", "lambda"])
def test_stop_iteration_in_a_thread_is_raised(function: Callable[..., Any]) -> None:
    """A future cannot hold StopIteration; the error arrives even so."""

    async def test(execution: Execution) -> None:
        with pytest.raises((RuntimeError, TypeError)):
            await asyncio.wait_for(execution.call(function), 60)

    run(test)


def test_function_that_cancels_its_task() -> None:
    """It ends only itself, not our task."""

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def test(execution: Execution) -> None:
        with pytest.raises(asyncio.CancelledError):
            await execution.in_own_task(execution.call(cancels_itself, on_loop=True))
        await asyncio.sleep(0)

    run(test)


def test_cancellation_reaches_the_separate_task() -> None:
    """Cancelling our task cancels the function, and our task ends, even if the function suppresses it."""
    cancelled: list[str] = []
    started = threading.Event()

    async def stubborn() -> str:
        try:
            started.set()
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append("yes")
        return "went on"

    async def test(execution: Execution) -> None:
        task = asyncio.create_task(execution.in_own_task(execution.call(stubborn, on_loop=True)))
        await wait_until_async(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)
    assert cancelled == ["yes"]


def test_waiting_thread_can_be_cancelled() -> None:
    """What a thread awaits on the loop can be cancelled."""

    async def test(execution: Execution) -> None:
        started = asyncio.Event()

        async def wait() -> None:
            started.set()
            await asyncio.sleep(10)

        loop = asyncio.get_running_loop()
        thread = asyncio.create_task(in_thread(loop, None, execution.call_blocking, undecided(wait)))
        await started.wait()
        execution.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            await thread

    run(test)


def test_cancelled_execution_with_a_running_thread() -> None:
    """The thread keeps the context until it is done; the cancelled task ends without it."""
    started, proceed, done = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        proceed.wait(60)
        TENANT.set("alice")
        done.set()

    async def test(execution: Execution) -> None:
        task = asyncio.create_task(execution.call(wait))
        await wait_until_async(started.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proceed.set()
        await asyncio.to_thread(done.wait, 5.0)

    run(test)


async def nothing(items: list[int]) -> None:
    for item in items:
        if item:
            return
        print(item)


async def something(items: list[int]) -> Any:
    if items:
        return items
    return None


async def one_or_none(items: list[int]) -> Any:
    return items or None


class Greeter:
    async def __call__(self, name: str) -> None: ...

    async def greet(self, name: str) -> str:
        return name


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nothing, True),
        (partial(nothing, [1]), True),
        (Greeter(), True),
        (something, False),
        (one_or_none, False),
        (Greeter().greet, False),
        (lambda: nothing([]), False),  # it returns an awaitable
        (print, False),
    ],
)
def test_functions_that_certainly_return_none(function: Callable[..., Any], expected: bool) -> None:
    """Only a plain `async def` that returns nothing but None."""
    assert returns_nothing(function) == expected


class Rows:
    """Supports `async for` and `async with`."""

    def __aiter__(self) -> Rows:
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        raise StopAsyncIteration

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


async def awaiting() -> None:
    await asyncio.sleep(0)


async def iterating() -> None:
    async for _ in Rows():
        pass


async def comprehending() -> None:
    print([each async for each in Rows()])


async def entering() -> None:
    async with Rows():
        pass


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nothing, True),
        (Greeter().greet, True),
        (awaiting, False),
        (iterating, False),
        (comprehending, False),
        (entering, False),
        (lambda: awaiting(), False),  # it returns an awaitable
        (print, False),
    ],
)
def test_functions_that_certainly_never_wait(function: Callable[..., Any], expected: bool) -> None:
    """For `await` and all other ways of waiting."""
    assert never_suspends(function) == expected


def generator() -> Generator[int, None, None]:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_generator_was_not_run(function: Callable[..., Any]) -> None:
    """Calling it runs nothing: that is an error and not a success."""
    with pytest.raises(TypeError, match=rf"^{function.__name__} has a `yield` in it, so that calling it runs nothing"):
        check_ran(function, function())
    check_ran(plain, plain())


@pytest.mark.parametrize("value", [None, True, 1, "a", {}, [], (), b"", object()])
def test_plain_value_is_the_result(value: Any) -> None:
    """It is not awaited."""
    assert not is_awaitable(value)


def test_function_is_named_as_it_is_and_an_object_by_its_repr() -> None:
    """A function by its qualified name, an object by its repr."""
    assert name_of(plain) == "plain"
    assert name_of(functools.partial(functools.partial(plain, 1), 2)) == "plain"
    assert name_of(Called()).startswith("<runtime.test_execution.Called") or "Called" in name_of(Called())


# The caller's own context


async def set_async(value: str) -> None:
    await asyncio.sleep(0)
    TENANT.set(value)


def set_plain(value: str) -> None:
    TENANT.set(value)


@pytest.mark.parametrize("function", [set_async, set_plain, undecided(set_async)], ids=["async def", "def", "hidden"])
@pytest.mark.parametrize("blocking", [False, True])
def test_hooks_of_a_caller_share_its_context(function: Callable[..., Any], blocking: bool) -> None:
    """They see what the caller has set, and it sees what they set, from sync and from async code."""

    async def at_the_async_door() -> str:
        await CallersContext(None).call(function, ("alice",), {}, on_loop=runs_on_loop(function))
        return TENANT.get()

    def at_the_sync_door() -> str:
        CallersContext.call_blocking(function, ("alice",), {})
        return TENANT.get()

    def caller() -> str:
        return at_the_sync_door() if blocking else asyncio.run(at_the_async_door())

    assert Context().run(caller) == "alice"


def test_own_loop_of_a_thread_stays_set() -> None:
    """A program that has set one finds it after a call with an `async def` hook."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        CallersContext.call_blocking(set_async, ("alice",), {})
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def does_nothing() -> None:
    """Do nothing."""


def generates() -> Any:
    """Run nothing when it is called."""
    yield 1


async def generates_async() -> Any:
    """Run nothing when it is called."""
    yield 1


@types.coroutine
def old_coroutine() -> Any:
    """Return a coroutine in the form used before `async def`."""
    yield


class Generating:
    """An object whose call is a generator, and one of whose methods is one."""

    def __call__(self) -> Any:
        """Run nothing when it is called."""
        yield 1

    def method(self) -> Any:
        """Run nothing when it is called."""
        yield 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (generates, True),
        (generates_async, True),
        (partial(generates), True),
        (Generating(), True),
        (Generating().method, True),
        (does_nothing, False),
        (old_coroutine, False),
        (contextmanager(generates), False),  # the wrapper is no generator, though the inner function is
        (print, False),
        (Generating, False),
    ],
    ids=["generator", "async", "partial", "object", "method", "plain", "old coroutine", "inside", "builtin", "class"],
)
def test_generator_is_recognised_inside_wrappers(function: Any, expected: bool) -> None:
    """The function that is really called counts."""
    assert is_generator(function) is expected


@pytest.mark.parametrize("returned", [False, True], ids=["runs", "has returned"])
@pytest.mark.filterwarnings("error")
def test_unused_coroutine_of_a_thread_is_closed(returned: bool) -> None:
    """A thread returns an awaitable after its caller was cancelled: Python logs no warning."""
    may_return, has_returned = threading.Event(), threading.Event()
    made: list[Any] = []

    def slow() -> Any:
        may_return.wait(60)
        made.append(asynchronous())
        return made[0]

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            execution = Execution(asyncio.get_running_loop(), executor)
            task = asyncio.create_task(execution.call_in_thread(slow, (), {}))
            await asyncio.sleep(0)
            if returned:
                may_return.set()
                executor.submit(has_returned.set)
                has_returned.wait(60)  # and the blocked loop could not receive the result yet
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            may_return.set()

    asyncio.run(main())
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


@pytest.mark.filterwarnings("error")
def test_coroutine_cancelled_before_its_start_is_closed() -> None:
    """The task that shall await a thread's result is cancelled before its first step."""
    made: list[Any] = []

    def quick() -> Any:
        made.append(asynchronous())
        return made[0]

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            task = asyncio.create_task(Execution(loop, executor).call_in_thread(quick, (), {}))
            while len(asyncio.all_tasks()) < 3:  # this one, `task`, and the task that it creates
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
