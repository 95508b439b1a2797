"""Where a handler is executed: at once in the receiving callback, in a task, or in a thread."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.config import Config
from lightbus.engine.threads import HandlerThreads
from lightbus.membership.context import Identity
from lightbus.rpc import callee
from lightbus.rpc.server import LARGE, Server
from lightbus.service.api import Api, ApiRegistry
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Error, Request, Result

ME = "a" * 16
SEEN: ContextVar[int] = ContextVar("seen", default=0)


class Place(Api):
    """Handlers that return where they are executed."""

    class Meta:
        name = "place"

    async def here(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.done()

    async def after_waiting(self) -> bool:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task is not None and task.done()

    async def cancels_itself(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    async def count(self) -> int:
        SEEN.set(SEEN.get() + 1)
        return SEEN.get()

    async def careless(self) -> Any:
        return asyncio.sleep(0, "later")

    async def hangs(self) -> Any:
        return asyncio.Event().wait()

    async def fail(self) -> None:
        raise ValueError("no")

    async def leave(self) -> None:
        raise SystemExit(3)

    def thread(self, size: int = 0, value: Any = None) -> str:
        return "x" * size or threading.current_thread().name


@pytest.fixture(autouse=True)
def all_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent calls from counting as long because other work delayed them."""
    monkeypatch.setattr(callee, "QUICK", 60.0)


class Line:
    """A server whose requests arrive in a callback of the loop, as those of a socket do."""

    def __init__(self, executor: HandlerThreads) -> None:
        apis = ApiRegistry()
        apis.add(Place())
        self.hooks = HookRegistry()
        self.executor = executor
        self.has_left = False
        self.answers: list[AnyMessage] = []
        self.answered_by: list[str] = []
        self.server = Server(
            identity=Identity(bus="b", service="s", process="p", instance=ME, host="h"),
            config=Config(),
            apis=apis,
            hooks=self.hooks,
            client=None,
            executor=executor,
            reply=self._reply,
            reply_from_thread=self._reply,
        )

    def _reply(self, routing_id: bytes, frame: bytes) -> bool:
        self.answered_by.append(threading.current_thread().name)
        self.answers.append(envelope.decode(frame)[1])
        return not self.has_left

    async def call(self, name: str, **kwargs: Any) -> tuple[AnyMessage, bool]:
        """Return the answer, and whether it was sent before the callback ended."""
        at_once: list[bool] = []

        def arrive() -> None:
            self.server.handle(b"one", 1, Request(ME, "place", name, 5.0, ME, [], None, 0, kwargs))
            at_once.append(bool(self.answers))

        asyncio.get_running_loop().call_soon(arrive)
        await wait_until_async(lambda: self.answers)
        return self.answers.pop(), at_once[0]


def serve(test: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a server; nothing may be left running afterwards."""

    async def main() -> None:
        executor = HandlerThreads(3)
        line = Line(executor)
        await asyncio.sleep(0)  # it is ready in the next turn of the loop
        try:
            await test(line)
            assert (await line.server.finish(5.0), line.server.running) == (0, 0)
        finally:
            executor.shutdown()

    asyncio.run(main())


def test_a_handler_that_never_suspends_is_executed_at_once() -> None:
    """It is answered before the callback returns, and the current task that it sees cannot be cancelled by others."""

    async def test(line: Line) -> None:
        assert await line.call("here") == (Result(True), True)
        assert await line.call("cancels_itself") == (Result("done"), True)
        assert await line.call("here") == (Result(True), True)

    serve(test)


def test_other_handlers_run_in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that awaits, or took long the last time, delays no other call."""
    monkeypatch.setattr(callee, "QUICK", 0.0)

    async def test(line: Line) -> None:
        assert await line.call("after_waiting") == (Result(False), False)
        assert await line.call("here") == (Result(True), True)
        assert await line.call("here") == (Result(False), False)

    serve(test)


def test_a_call_with_hooks_runs_in_a_task() -> None:
    """A hook may await something."""

    async def test(line: Line) -> None:
        async def before() -> None:
            await asyncio.sleep(0)

        line.hooks.add("before_rpc_execution", before)
        assert await line.call("here") == (Result(False), False)

    serve(test)


def test_each_call_has_its_own_context() -> None:
    """A context variable that one call sets is not visible to the next, although there is no task between them."""

    async def test(line: Line) -> None:
        assert [await line.call("count") for _ in range(3)] == [(Result(1), True)] * 3
        assert SEEN.get() == 0

    serve(test)


@pytest.mark.parametrize("name", ["fail", "leave"])
def test_an_exception_in_an_immediate_handler_is_answered(name: str) -> None:
    """Whatever the handler raises, the loop continues."""

    async def test(line: Line) -> None:
        answer, at_once = await line.call(name)
        assert isinstance(answer, Error)
        assert at_once
        assert await line.call("here") == (Result(True), True)

    serve(test)


def test_a_returned_awaitable_is_awaited() -> None:
    """An awaitable that a handler forgot to await is awaited, in a task."""

    async def test(line: Line) -> None:
        assert await line.call("careless") == (Result("later"), False)

    serve(test)


def test_cancel_before_the_awaitable_is_awaited() -> None:
    """A CANCEL may arrive together with the call: the call still ends, and frees its place."""

    async def test(line: Line) -> None:
        def arrive() -> None:
            line.server.handle(b"one", 1, Request(ME, "place", "hangs", 5.0, ME, [], None, 0, {}))
            line.server.cancel(b"one", 1)

        asyncio.get_running_loop().call_soon(arrive)
        await wait_until_async(lambda: line.server.counts["served"])
        assert line.answers == []

    serve(test)


def test_calls_answered_by_threads_are_counted_when_statistics_are_read() -> None:
    """The loop is not woken for them, and no further call arrives."""

    async def test(line: Line) -> None:
        await line.call("thread")
        await wait_until_async(lambda: line.server._ended)
        assert line.server.log.usage["place", "thread"].calls == 1
        await line.call("thread")
        await wait_until_async(lambda: line.server._ended)
        assert line.server.counts["served"] == 2

    serve(test)


@pytest.mark.parametrize("name", ["thread", "here", "after_waiting"])
def test_a_caller_that_has_left_is_answered_once(name: str) -> None:
    """A reply that cannot be delivered is not sent again, or it would count as two dropped replies."""

    async def test(line: Line) -> None:
        line.has_left = True
        await line.call(name)
        assert await line.server.finish(5.0) == 0
        assert (len(line.answered_by), line.server.counts["served"]) == (1, 1)

    serve(test)


def test_no_thread_can_be_started() -> None:
    """The caller is told to ask another worker, and the place is free again."""

    async def test(line: Line) -> None:
        def no_room(*args: Any) -> None:
            raise RuntimeError("can't start new thread")

        line.executor.run = no_room  # type: ignore[method-assign]
        answer, at_once = await line.call("thread")
        assert isinstance(answer, Error)
        assert (answer.started, answer.details["elsewhere"], at_once) == (False, True, True)
        assert "has no thread for it (can't start new thread)" in answer.message
        del line.executor.run
        assert (await line.call("thread"))[0] == Result("lightbus-handler")

    serve(test)


class Large(list[int]):
    """A list that can be weakly referenced, to see whether it still exists."""


def test_large_arguments_are_released() -> None:
    """After a thread has answered a call, no large object of it is kept until the next call."""

    async def test(line: Line) -> None:
        request = Request(ME, "place", "thread", 5.0, ME, [], None, 0, {"value": Large([0])})
        value = weakref.ref(request.kwargs["value"])
        line.server.handle(b"one", 1, request, memory=LARGE)
        del request
        await wait_until_async(lambda: line.answers and value() is None)

    serve(test)


def test_a_thread_sends_its_answer_itself() -> None:
    """The loop takes no part between the end of a `def` handler and its reply, unless the reply is large."""

    async def test(line: Line) -> None:
        assert (await line.call("thread"))[0] == Result("lightbus-handler")
        await line.call("thread", size=LARGE)
        assert line.answered_by == ["lightbus-handler", threading.current_thread().name]
        assert (line.server.running, line.server.counts["served"]) == (0, 2)

    serve(test)
