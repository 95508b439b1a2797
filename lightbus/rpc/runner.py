"""The execution of a call: its arguments, the hooks around it, and its handler, on the loop or in a thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from ..message import ResultMessage, RpcMessage
from ..service.execution import Execution
from ..service.failures import trace_of
from ..service.hooks import HookRegistry
from .job import Job
from .places import Places
from .replies import Replies

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Runner"]

logger = logging.getLogger("lightbus.serving")


class Runner:
    """
    Executes calls.

    Args:
        config: the settings: validation, casting.
        hooks: run around each execution, but for those of `internal.` APIs.
        client: handed to the hooks.
        loop: the node's.
        executor: where `def` handlers run.
        places: are told when a handler has its turn.
        replies: make the answers.
        finished: is given each call with its answer, which is empty where nobody is to be told, and the time at which
            its thread was done with it, if it had one. On the loop.

    """

    def __init__(
        self,
        *,
        config: Config,
        hooks: HookRegistry,
        client: Any,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        places: Places,
        replies: Replies,
        finished: Callable[[Job, bytes, float | None], None],
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._client = client
        self._loop = loop
        self._executor = executor
        self._places = places
        self._replies = replies
        self._finished = finished

    async def run(self, job: Job) -> None:
        """Execute a call whose handler is a coroutine."""
        frame = b""
        if job.counted:
            self._places.has_turn(job)
        try:
            if not job.cancelled:
                frame = self._replies.of_result(job, await self._execute(job))
        except BaseException as error:  # SystemExit, too, must end neither the worker nor the wait of its caller
            frame = self._replies.of_error(job, error)
        finally:
            self._finished(job, frame, None)

    async def _execute(self, job: Job) -> Any:
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if not hooks.is_about("rpc_execution") or job.is_internal:
            value = await execution.call(job.procedure.function, (), kwargs, on_loop=True)
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
            result = _result(message, await execution.call(job.procedure.function, (), kwargs, on_loop=True))
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
        if job.counted:
            self._places.has_turn_in_thread(job)
        try:
            frame = self._replies.of_result(job, self._execute_blocking(job))
        except BaseException as error:
            frame = self._replies.of_error(job, error)
        try:
            self._loop.call_soon_threadsafe(self._finished, job, frame, time.monotonic())
        except RuntimeError:
            logger.warning("%s ended after the worker had stopped; its caller gets no answer", job.name)

    def _execute_blocking(self, job: Job) -> Any:
        """Do as `_execute` does, all in this thread: what a `def` hook does to its thread is there for the handler."""
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if not hooks.is_about("rpc_execution") or job.is_internal:
            value = execution.call_blocking(job.procedure.function, (), kwargs)
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
            result = _result(message, execution.call_blocking(job.procedure.function, (), kwargs))
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
        """Return the arguments, and the execution that serves the call. Raises where they do not fit."""
        kwargs = self._arguments(job)
        job.execution = execution = Execution(self._loop, self._executor, job.served)
        job.in_user_code = True
        return kwargs, execution

    def _arguments(self, job: Job) -> dict[str, Any]:
        return self._fitted(job, job.request.kwargs)

    def _fitted(self, job: Job, kwargs: dict[str, Any]) -> dict[str, Any]:
        settings = self._config.api(job.request.api)
        signature = job.procedure.signature
        if settings.validation.incoming:
            signature.validate(kwargs)
        return signature.cast(kwargs, strict=settings.strict_validation) if settings.cast_values else kwargs

    def _replaced(self, job: Job, message: RpcMessage, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, or those that a hook has put in their place."""
        return kwargs if message.kwargs is kwargs else self._fitted(job, message.kwargs)


def _message(job: Job, kwargs: dict[str, Any]) -> RpcMessage:
    """Return what hooks are told of a call. What they put in place of its arguments is what the handler is given."""
    return RpcMessage(
        api_name=job.request.api, procedure_name=job.request.procedure, kwargs=kwargs, id=str(job.call_id)
    )


def _result(message: RpcMessage, value: Any, *, failed: bool = False) -> ResultMessage:
    """Return what hooks are told of a result. What they put in its place is what the caller is given."""
    return ResultMessage(
        result=value,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
        error=failed,
        trace=trace_of(value) if failed else "",
    )
