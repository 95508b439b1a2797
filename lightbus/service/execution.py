"""Running the user's code: in a context of its own, until its result is final, with its errors kept apart.

A call, an event, a scheduled run, a background task, the hooks of a worker's life: each is one `Execution`. Its
functions (a hook before, the handler, a hook after) share its context, whether they are `def` or `async def`, and no
other code sees the values that they set there.

A cancelled task enters its context at once, though a thread may still be in it, and Python allows only one at a time.
So no task of ours has an execution's context as its own: the steps of the user's code run in that context one by one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dis
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import Context, copy_context
from functools import partial
from itertools import pairwise
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import Any

from ..deadline import ServedCall, current_call
from ..phrases import safely
from .forks import FORKS, end_child

__all__ = [
    "CallersContext",
    "Execution",
    "InContext",
    "check_ran",
    "close_unused",
    "in_context",
    "in_thread",
    "is_awaitable",
    "is_cancelled",
    "is_generator",
    "name_of",
    "never_suspends",
    "outcome",
    "returns_nothing",
    "runs_on_loop",
]

NOTHING: Mapping[str, Any] = {}

_UNSET = object()

_NO_AWAITABLES = frozenset({type(None), bool, int, float, str, bytes, dict, list})


def runs_on_loop(function: Callable[..., Any]) -> bool:
    """
    Return whether a function is certainly an `async def`, so that calling it does not block.

    Any other function is called in a thread. Whether its result is awaited depends on the result only.
    """
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def never_suspends(function: Callable[..., Any]) -> bool:
    """
    Return whether an `async def` certainly never waits.

    Then no other code runs before it ends, and it needs no task of its own.
    """
    code = _code_of(function)
    # Wherever it waits, by `await`, `async for`, `async with` or in a comprehension, it has a YIELD_VALUE.
    return code is not None and all(each.opname != "YIELD_VALUE" for each in dis.get_instructions(code))


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Return whether an `async def` certainly returns None, so that its result need not be awaited."""
    code = _code_of(function)
    if code is None:
        return False
    for before, after in pairwise(dis.get_instructions(code)):
        # A jump target may return another value, too: `return first() or None`.
        is_none = before.opname == "LOAD_CONST" and before.argval is None and not after.is_jump_target
        if (after.opname == "RETURN_VALUE" and not is_none) or (
            after.opname == "RETURN_CONST" and after.argval is not None
        ):
            return False
    return True


def _code_of(function: Any) -> CodeType | None:
    """Return the code of an `async def`; None for anything else, even if it is marked as one."""
    code = getattr(_called(function), "__code__", None)
    return code if isinstance(code, CodeType) and code.co_flags & inspect.CO_COROUTINE else None


def is_awaitable(value: Any) -> bool:
    """Return whether a value can be awaited: a coroutine, a future (of threads, too), an awaitable object."""
    if type(value) in _NO_AWAITABLES:  # the usual case
        return False
    return inspect.isawaitable(value) or isinstance(value, concurrent.futures.Future)


def check_ran(function: Callable[..., Any], value: Any) -> None:
    """Raise TypeError if calling a function has not run it, because it is a generator."""
    if isinstance(value, (GeneratorType, AsyncGeneratorType)):
        raise TypeError(
            f"{name_of(function)} has a `yield` in it, so that calling it runs nothing of it. "
            "Write it as a plain function."
        )


def is_generator(function: Any) -> bool:
    """Return whether calling a function would not run it, because it contains a `yield`."""
    called = _called(function)
    if inspect.isgeneratorfunction(called):
        return not called.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE
    return inspect.isasyncgenfunction(called)


def _called(function: Any) -> Any:
    """Return the function that runs when a callable is called: a `partial`, a bound method, an object."""
    while isinstance(function, partial):
        function = function.func
    called = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    return getattr(called, "__func__", called)


def name_of(function: Any) -> str:
    """Return the name of a function, or of another callable, for log lines and errors."""
    while isinstance(function, partial):
        function = function.func
    return safely(lambda named: getattr(named, "__qualname__", "") or repr(named), function)


def close_unused(value: Any) -> None:
    """Close a coroutine that will not be awaited, so that Python does not warn about it."""
    if isinstance(value, CoroutineType):
        value.close()


def in_context(context: Context, awaitable: Awaitable[Any]) -> InContext:
    """Return an awaitable that runs the given one in a context."""
    return InContext(context, _wait_for(awaitable))


class InContext:
    """
    An awaitable: a coroutine that runs in the awaiting task, but in a context of its own.

    If its result is awaitable, that is awaited, too: an `async def` around another may have forgotten to.
    """

    __slots__ = ("_context", "_coroutine", "_waited_for")

    def __init__(self, context: Context, coroutine: Coroutine[Any, Any, Any], waited_for: Any = _UNSET) -> None:
        self._context = context
        self._coroutine = coroutine
        self._waited_for = waited_for

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine, waited_for = self._context.run, self._coroutine, self._waited_for
        value: Any = None
        forks = FORKS.count
        try:
            if waited_for is _UNSET:
                waited_for = run(coroutine.send, None)
            while True:
                if FORKS.count != forks:
                    end_child()  # the child would wait on the parent's loop
                try:
                    sent = yield waited_for
                except BaseException as error:
                    waited_for = run(coroutine.throw, error)
                else:
                    waited_for = run(coroutine.send, sent)
        except StopIteration as end:
            value = end.value
        except BaseException as error:
            if FORKS.count != forks:
                end_child(error)
            raise
        if FORKS.count != forks:
            end_child()
        if is_awaitable(value):
            return (yield from InContext(self._context, _wait_for(value)).__await__())
        return value


class Execution:
    """
    One execution of the user's code: functions that share a context, one after another.

    Either in a task of the loop (`call`), where plain functions run in threads, or all in one thread (`call_blocking`),
    where awaitables are awaited on the loop.

    Args:
        loop: the loop on which awaitables are awaited.
        executor: the threads for plain functions; None: those of the loop.
        served: the call that it serves, whose deadline and chain are inherited.

    """

    __slots__ = ("_awaited", "_executor", "_loop", "context", "was_cancelled")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executor: Executor | None, served: ServedCall | None = None
    ) -> None:
        self.context = Context()
        if served is not None:
            self.context.run(current_call.set, served)
        self._loop = loop
        self._executor = executor
        self._awaited: concurrent.futures.Future[Any] | None = None
        self.was_cancelled = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that does not wait, in this thread."""
        return _run(self.context, function, args, NOTHING)

    def begin(self, function: Callable[..., Coroutine[Any, Any, Any]], kwargs: Mapping[str, Any]) -> Any:
        """Run an `async def` until it first waits: return its result, or the InContext to await."""
        context, coroutine, forks = self.context, function(**kwargs), FORKS.count
        try:
            waited_for = context.run(coroutine.send, None)
        except StopIteration as end:
            value = end.value
        except BaseException as error:
            if FORKS.count != forks:
                end_child(error)
            raise
        else:
            value = InContext(context, coroutine, waited_for)
        if FORKS.count != forks:
            end_child()
        if type(value) in _NO_AWAITABLES or type(value) is InContext or not is_awaitable(value):
            return value
        return in_context(context, value)

    async def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NOTHING,
        *,
        on_loop: bool = False,
    ) -> Any:
        """Call a function, on the loop or in a thread, await its result if awaitable, and return the final result."""
        if on_loop:
            value = _run(self.context, function, args, kwargs)
        else:
            run = partial(self.context.run, function, *args, **kwargs)
            value = await in_thread(self._loop, self._executor, run)
        if type(value) is CoroutineType:
            return await InContext(self.context, value)
        return await self.finish(value) if is_awaitable(value) else value

    async def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Await something in the context."""
        return await in_context(self.context, awaitable)

    def call_blocking(
        self, function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] = NOTHING
    ) -> Any:
        """Do the same as `call` in this thread, which is not the loop's."""
        value = _run(self.context, function, args, kwargs)
        if not is_awaitable(value):
            return value
        coroutine = outcome(self.finish(value))
        try:
            self._awaited = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            close_unused(value)
            raise
        if self.was_cancelled:  # it was cancelled before `_awaited` was set
            self._awaited.cancel()
        result, error = self._awaited.result()
        if error is not None:
            raise error
        return result

    def cancel(self) -> None:
        """Cancel what a thread awaits on the loop, now or in future."""
        self.was_cancelled = True
        if self._awaited is not None:
            self._awaited.cancel()

    async def call_in_thread(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function in a thread, and await its result in a task of its own."""
        value = await in_thread(self._loop, self._executor, partial(self.context.run, function, *args, **kwargs))
        if not is_awaitable(value):
            return value
        try:
            return await self.in_own_task(self.finish(value))
        finally:
            close_unused(value)  # if that was cancelled before it started

    async def in_own_task(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await a coroutine in a task of its own: a function may cancel that task, but not ours."""
        try:
            result, error = await self._loop.create_task(outcome(coroutine))
        finally:
            coroutine.close()  # if the task was cancelled before it started
        if is_cancelled():
            raise asyncio.CancelledError  # the cancellation went to the other task, and ended there
        if error is not None:
            raise error
        return result


def is_cancelled() -> bool:
    """Return whether the running task, or the awaitable that it runs, was cancelled."""
    task = None if asyncio._get_running_loop() is None else asyncio.current_task()
    return task is not None and task.cancelling() > 0


class CallersContext:
    """The hooks around a call or a firing at the caller: they are part of the caller's code, and run in its context."""

    def __init__(self, executor: Executor | None) -> None:
        self._executor = executor

    async def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NOTHING,
        *,
        on_loop: bool = False,
    ) -> Any:
        """Call a function, on the loop or in a thread, await an awaitable result, and return the final result."""
        if on_loop:
            value = function(*args, **kwargs)
        else:
            context = copy_context()  # the caller's task has entered its own context, so a thread cannot
            run = partial(context.run, function, *args, **kwargs)
            value = await in_thread(asyncio.get_running_loop(), self._executor, run)
            _copy_context(context)
        return await _wait_for(value) if is_awaitable(value) else value

    @staticmethod
    def call_blocking(
        function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] = NOTHING
    ) -> Any:
        """Call a function in a thread without a loop; an awaitable result is awaited on a loop made for it."""
        value = function(*args, **kwargs)
        if not is_awaitable(value):
            return value
        context = copy_context()
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # with it, the thread's own loop stays set
            result = runner.run(_wait_for(value), context=context)
        _copy_context(context)
        return result


async def in_thread(loop: asyncio.AbstractEventLoop, executor: Executor | None, /, run: Any, *args: Any) -> Any:
    """Call `run(*args)` in a thread; return its result or raise its exception."""
    forks = FORKS.count
    returned: list[Any] = []
    is_given_up = False

    def attempt() -> tuple[Any, BaseException | None]:
        value: Any = None
        failure: BaseException | None = None
        try:
            value = run(*args)
        except BaseException as error:  # a future cannot hold StopIteration: its waiter would wait for ever
            failure = error
        if FORKS.count != forks:
            end_child(failure)
        returned.append(value)
        if is_given_up:
            close_unused(value)
        return value, failure

    try:
        value, error = await loop.run_in_executor(executor, attempt)
    except asyncio.CancelledError:  # the thread continues, and its result will not be awaited
        is_given_up = True
        for value in returned:
            close_unused(value)
        raise
    if error is not None:
        raise error
    return value


def _run(context: Context, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a user's function in its context."""
    forks = FORKS.count
    try:
        value = context.run(function, *args, **kwargs)
    except BaseException as error:
        if FORKS.count != forks:
            end_child(error)
        raise
    if FORKS.count != forks:
        end_child()
    return value


async def outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Return the result of an awaitable, or its exception: a task that raises SystemExit would stop the loop."""
    value: Any = None
    failure: BaseException | None = None
    try:
        value = await awaitable
    except BaseException as error:
        failure = error
    if is_cancelled():
        with contextlib.suppress(asyncio.CancelledError):  # a task that cancelled itself gets it only now
            await asyncio.sleep(0)
    return value, failure


async def _wait_for(value: Any) -> Any:
    """Return the final result of a value, awaiting it until it is no longer awaitable."""
    while is_awaitable(value):
        value = await (asyncio.wrap_future(value) if isinstance(value, concurrent.futures.Future) else value)
    return value


def _copy_context(context: Context) -> None:
    """Set in this context the variables that were set in a copy of it."""
    here = copy_context()
    for variable, value in context.items():
        if here.get(variable, _UNSET) is not value:
            variable.set(value)
