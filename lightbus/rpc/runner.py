"""The execution of a call: its arguments, the hooks around it, and its handler, on the loop or in a thread."""

from __future__ import annotations

import asyncio
import time
from asyncio import _enter_task, _leave_task
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from ..message import ResultMessage, RpcMessage
from ..service.execution import Execution, InContext
from ..service.failures import trace_of
from ..service.hooks import HookRegistry
from ..tracing import trace_of_execution
from .job import Job
from .places import CallPlaces
from .replies import Replies

__all__ = ["HandlerExecutor", "Runner"]


T = TypeVar("T")


class HandlerExecutor(Executor):
    """An executor for `def` handlers."""

    def run(self, function: Callable[[T], None], argument: T, /) -> None:
        """Call a function in a thread. It must raise nothing; its end cannot be awaited."""
        raise NotImplementedError


class Runner:
    """
    Executes calls.

    Args:
        hooks: run around each execution, except those of `internal.` APIs.
        client: passed to the hooks.
        loop: the node's event loop.
        executor: runs `def` handlers.
        places: informed when a handler begins.
        replies: encodes the answers.
        finished: called on the loop with each call and its encoded answer, which is empty if no caller waits for it.
        finished_in_thread: called with the same in the thread that has executed the call.

    """

    def __init__(
        self,
        *,
        hooks: HookRegistry,
        client: Any,
        loop: asyncio.AbstractEventLoop,
        executor: HandlerExecutor,
        places: CallPlaces,
        replies: Replies,
        finished: Callable[[Job, bytes], None],
        finished_in_thread: Callable[[Job, bytes], None],
    ) -> None:
        self._hooks = hooks
        self._client = client
        self._loop = loop
        self._executor = executor
        self._places = places
        self._replies = replies
        self._finished = finished
        self._finished_in_thread = finished_in_thread
        self._ended_task = loop.create_task(_nothing())
        """The `asyncio.current_task()` of calls executed without a task. It has ended: nothing can cancel it."""

    def run_at_once(self, job: Job) -> bool:
        """
        Execute a call whose coroutine never suspends, without a task: making a task would cost more than the call.

        Return False, and do nothing, where that is impossible: there are hooks; calls are queued, each of which would
        start the next one recursively; or a task is running, so this is no plain callback of the loop.
        """
        loop, task, callee = self._loop, self._ended_task, job.callee
        frame, value = b"", None
        if (
            ("rpc_execution" in self._hooks.subjects and not callee.is_internal)
            or self._places.waiting
            or not task.done()
        ):
            return False
        try:
            _enter_task(loop, task)
        except RuntimeError:
            return False
        try:  # `_begin` inlined, for speed: nearly every call passes here
            kwargs = job.request.kwargs
            if not callee.passes(kwargs):
                kwargs = self._fitted(job, kwargs)
            job.execution = execution = Execution(loop, self._executor, job.served)
            job.in_user_code = True
            if job.request.trace:
                execution.run(trace_of_execution.set, job.request.trace)
            value = execution.begin(callee.procedure.function, kwargs)
            if type(value) is not InContext:
                job.in_user_code = False
                frame = self._replies.of_result(job, value)
        except BaseException as error:  # as in `run`
            frame = self._replies.of_error(job, error)
        finally:
            _leave_task(loop, task)
        if type(value) is InContext:  # the handler has returned an awaitable
            loop.create_task(self._await_rest(job, value))
        else:
            job.ended = now = time.monotonic()
            callee.note_duration(now - job.began)
            self._finished(job, frame)
        return True

    async def _await_rest(self, job: Job, rest: InContext) -> None:
        task = job.task = asyncio.current_task()  # not before: a task cancelled before it runs would report no end
        if task is not None and job.execution is not None and job.execution.was_cancelled:
            task.cancel()
        try:
            value = await rest
            job.in_user_code = False
            frame = self._replies.of_result(job, value)
        except BaseException as error:
            frame = self._replies.of_error(job, error)
        self._finished(job, frame)

    async def run(self, job: Job) -> None:
        """Execute a call whose handler is a coroutine."""
        frame = b""
        if job.has_place:
            self._places.handler_began(job)
        try:
            if not job.cancelled:
                frame = self._replies.of_result(job, await self._execute(job))
        except BaseException as error:  # SystemExit, too, must not end the worker, and must be answered
            frame = self._replies.of_error(job, error)
        finally:
            job.callee.note_duration(time.monotonic() - job.began)
            self._finished(job, frame)

    async def _execute(self, job: Job) -> Any:
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if not hooks.is_about("rpc_execution") or job.callee.is_internal:
            value = await execution.call(job.callee.procedure.function, (), kwargs, on_loop=True)
        else:
            message = _message(job, kwargs)
            with hooks.around("around_rpc_execution", execution.run, client=self._client, rpc_message=message):
                value = await self._execute_with_hooks(job, message, kwargs, execution)
        job.in_user_code = False
        return value

    async def _execute_with_hooks(
        self, job: Job, message: RpcMessage, kwargs: dict[str, Any], execution: Execution
    ) -> Any:
        hooks, about = self._hooks, {"client": self._client, "rpc_message": message}
        await hooks.run("before_rpc_execution", execution.call, **about)
        kwargs = self._replaced(job, message, kwargs)
        try:
            result = _result(message, await execution.call(job.callee.procedure.function, (), kwargs, on_loop=True))
        except BaseException as error:
            if not hooks.has("after_rpc_execution") or job.cancelled:
                raise
            failure = _result(message, error, failed=True)
            await hooks.run("after_rpc_execution", execution.call, **about, result_message=failure)
            if failure.error:
                raise
            return failure.result
        await hooks.run("after_rpc_execution", execution.call, **about, result_message=result)
        return result.result

    def run_blocking(self, job: Job) -> None:
        """Execute a call whose handler blocks, in this thread."""
        frame = b""
        if job.has_place:
            self._places.handler_began_in_thread(job)
        before = time.thread_time()
        try:
            frame = self._replies.of_result(job, self._execute_blocking(job))
        except BaseException as error:
            frame = self._replies.of_error(job, error)
        job.cpu_seconds = time.thread_time() - before
        job.ended = time.monotonic()
        self._finished_in_thread(job, frame)

    def _execute_blocking(self, job: Job) -> Any:
        """Do as `_execute` does, all in this thread, so that a handler sees thread-local state that `def` hooks set."""
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if not hooks.is_about("rpc_execution") or job.callee.is_internal:
            value = execution.call_blocking(job.callee.procedure.function, (), kwargs)
        else:
            message = _message(job, kwargs)
            with hooks.around("around_rpc_execution", execution.run, client=self._client, rpc_message=message):
                value = self._execute_with_hooks_blocking(job, message, kwargs, execution)
        job.in_user_code = False
        return value

    def _execute_with_hooks_blocking(
        self, job: Job, message: RpcMessage, kwargs: dict[str, Any], execution: Execution
    ) -> Any:
        hooks, about = self._hooks, {"client": self._client, "rpc_message": message}
        hooks.run_blocking("before_rpc_execution", execution.call_blocking, **about)
        kwargs = self._replaced(job, message, kwargs)
        try:
            result = _result(message, execution.call_blocking(job.callee.procedure.function, (), kwargs))
        except BaseException as error:
            if not hooks.has("after_rpc_execution") or job.cancelled:
                raise
            failure = _result(message, error, failed=True)
            hooks.run_blocking("after_rpc_execution", execution.call_blocking, **about, result_message=failure)
            if failure.error:
                raise
            return failure.result
        hooks.run_blocking("after_rpc_execution", execution.call_blocking, **about, result_message=result)
        return result.result

    def _begin(self, job: Job) -> tuple[dict[str, Any], Execution]:
        """Return the arguments, and the execution of the call. Raises if the arguments do not fit the signature."""
        kwargs = self._fitted(job, job.request.kwargs)
        job.execution = execution = Execution(self._loop, self._executor, job.served)
        job.in_user_code = True
        if job.request.trace:
            execution.run(trace_of_execution.set, job.request.trace)
        return kwargs, execution

    def _fitted(self, job: Job, kwargs: dict[str, Any]) -> dict[str, Any]:
        if job.callee.passes(kwargs):
            return kwargs  # the usual case: nothing to validate or cast
        signature, settings = job.callee.procedure.signature, job.callee.settings
        if settings.validation.incoming:
            signature.validate(kwargs)
        return signature.cast(kwargs, strict=settings.strict_validation) if settings.cast_values else kwargs

    def _replaced(self, job: Job, message: RpcMessage, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, or those that a hook has replaced them with."""
        return kwargs if message.kwargs is kwargs else self._fitted(job, message.kwargs)


def _message(job: Job, kwargs: dict[str, Any]) -> RpcMessage:
    """Return the message that hooks get for a call. Arguments that they replace are passed to the handler."""
    trace = job.request.trace
    return RpcMessage(
        api_name=job.request.api,
        procedure_name=job.request.procedure,
        kwargs=kwargs,
        id=str(job.call_id),
        trace=None if trace is None else dict(trace),
    )


def _result(message: RpcMessage, value: Any, *, failed: bool = False) -> ResultMessage:
    """Return the message that hooks get for a result. A result that they replace is sent to the caller."""
    return ResultMessage(
        result=value,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
        error=failed,
        trace=trace_of(value) if failed else "",
    )


async def _nothing() -> None:
    """Do nothing."""
