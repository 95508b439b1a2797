"""The execution of a call: its arguments, the hooks around it, and its handler, on the loop or in a thread."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers.jobs import frame_of, job_of
from lightbus.config import Config
from lightbus.engine.threads import HandlerThreads
from lightbus.message import ResultMessage, RpcMessage
from lightbus.rpc.job import Job
from lightbus.rpc.places import CallPlaces
from lightbus.rpc.replies import Replies
from lightbus.rpc.runner import Runner
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Error, Result


class Bench:
    """A runner whose replies are recorded."""

    def __init__(self, executor: HandlerThreads, **settings: Any) -> None:
        self.config = config = Config(**settings)
        loop = asyncio.get_running_loop()
        self.hooks = HookRegistry()
        self.finished: list[tuple[Job, AnyMessage | None]] = []
        self.is_finished = asyncio.Event()
        self.places = CallPlaces(config, loop, Counter(), lambda job: None, lambda job, reason: None)
        self.runner = Runner(
            hooks=self.hooks, client="the client", loop=loop, executor=executor, places=self.places,
            replies=Replies(config, Counter(), lambda caller: 0), finished=self.finish,
            finished_in_thread=lambda job, frame: loop.call_soon_threadsafe(self.finish, job, frame),
        )  # fmt: skip

    def finish(self, job: Job, frame: bytes) -> None:
        """Record a reply."""
        self.finished.append((job, envelope.decode(frame)[1] if frame else None))
        self.is_finished.set()

    async def run(self, job: Job, *, blocking: bool = False) -> AnyMessage | None:
        """Execute a call, and return its reply."""
        job.callee.settings = self.config.api("work")
        self.places.admit(job, frame_of(job))
        if blocking:
            await asyncio.to_thread(self.runner.run_blocking, job)
        else:
            await self.runner.run(job)
        await self.is_finished.wait()
        [(finished, answer)] = self.finished
        assert finished is job
        assert (job.ended is not None) is blocking
        return answer


def execute(test: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
    """Run a test with a runner."""

    async def main() -> None:
        executor = HandlerThreads(2)
        await test(Bench(executor, **settings))
        executor.shutdown()

    asyncio.run(main())


KINDS = pytest.mark.parametrize("blocking", [False, True], ids=["loop", "thread"])


def name_of(kind: str, *, blocking: bool) -> str:
    """Return the name of a handler of a kind."""
    return f"{kind}_in_thread" if blocking else kind


@KINDS
def test_handler_gets_the_arguments(blocking: bool) -> None:
    """The handler is called with the arguments of the request."""

    async def test(bench: Bench) -> None:
        job = job_of(name_of("echo", blocking=blocking), kwargs={"value": [1, "a"]})
        assert await bench.run(job, blocking=blocking) == Result([1, "a"])
        assert (job.failed, job.in_user_code) == (False, False)

    execute(test)


@KINDS
def test_arguments_that_do_not_fit(blocking: bool) -> None:
    """Nothing is executed, and no hook runs; unless the settings disable the check."""

    async def test(bench: Bench) -> None:
        ran: list[str] = []
        bench.hooks.add("before_rpc_execution", lambda **details: ran.append("before"))
        job = job_of(name_of("echo", blocking=blocking), kwargs={"nothing": 1})
        answer = await bench.run(job, blocking=blocking)
        assert isinstance(answer, Error)
        assert (answer.started, ran, job.execution) == (False, [], None)

    execute(test)


@KINDS
def test_hooks_around_a_call(blocking: bool) -> None:
    """They get the call, and afterwards its result."""

    async def test(bench: Bench) -> None:
        before: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        bench.hooks.add("before_rpc_execution", lambda **details: before.append(details))
        bench.hooks.add("after_rpc_execution", lambda **details: after.append(details))
        job = job_of(name_of("echo", blocking=blocking), call_id=7, kwargs={"value": 3})
        await bench.run(job, blocking=blocking)
        [details], [more] = before, after
        message = details["rpc_message"]
        assert isinstance(message, RpcMessage)
        assert (message.api_name, message.procedure_name, message.kwargs, message.id) == (
            "work", job.request.procedure, {"value": 3}, "7",
        )  # fmt: skip
        assert details["client"] == "the client"
        result = more["result_message"]
        assert isinstance(result, ResultMessage)
        assert (result.result, result.error, result.rpc_message_id, result.trace) == (3, False, "7", "")

    execute(test)


def test_hooks_after_a_failure() -> None:
    """They get the error, as the caller does."""

    async def test(bench: Bench) -> None:
        told: list[ResultMessage] = []
        bench.hooks.add("after_rpc_execution", lambda **details: told.append(details["result_message"]))
        error = ValueError("no")
        answer = await bench.run(job_of("fail", kwargs={}))
        assert isinstance(answer, Error)
        assert answer.started
        [result] = told
        assert (result.error, type(result.result)) == (True, TypeError)
        assert "raise value" in result.trace
        assert error is not result.result

    execute(test)


@KINDS
def test_internal_calls_have_no_hooks(blocking: bool) -> None:
    """A plugin that counts calls counts those of the users."""

    async def test(bench: Bench) -> None:
        ran: list[str] = []
        for name in ("before_rpc_execution", "after_rpc_execution"):
            bench.hooks.add(name, lambda **details: ran.append("hook"))
        job = job_of(name_of("echo", blocking=blocking), api="internal.peer")
        assert await bench.run(job, blocking=blocking) == Result(None)
        assert ran == []

    execute(test)


@KINDS
def test_a_hook_that_fails_fails_the_call(blocking: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The handler is not executed."""

    def refuse(**details: Any) -> None:
        raise PermissionError("not you")

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", refuse)
        answer = await bench.run(job_of(name_of("echo", blocking=blocking)), blocking=blocking)
        assert isinstance(answer, Error)
        assert "not you" in answer.message

    execute(test)


def test_a_cancelled_call_is_not_executed() -> None:
    """Its reply is empty."""

    async def test(bench: Bench) -> None:
        job = job_of()
        job.cancelled = True
        assert await bench.run(job) is None
        assert job.execution is None

    execute(test)


@pytest.mark.parametrize(("cast", "kind"), [(True, "Point"), (False, "dict")])
def test_values_are_cast_if_the_settings_say_so(cast: bool, kind: str) -> None:
    """Otherwise they are passed as they arrived."""

    async def test(bench: Bench) -> None:
        assert await bench.run(job_of("typed", kwargs={"point": {"x": 1}})) == Result(kind)

    execute(test, apis={"work": {"cast_values": cast}})
