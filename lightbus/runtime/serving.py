"""The way of a request: decode -> admit -> validate -> handler -> reply.

Whatever it is, it is answered; nothing a peer sends stops a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from ..deadline import Deadline, Inherited, current_deadline
from ..exceptions import (
    DeformError,
    InvalidArguments,
    LightbusException,
    LightbusWorkerError,
    PayloadTooLarge,
    PeerBusy,
    PeerRefused,
    PeerUnreachable,
    safely,
)
from ..message import ResultMessage, RpcMessage
from ..service.api import ApiRegistry, Procedure
from ..service.hooks import HookRegistry
from ..wire import codec, envelope
from ..wire.envelope import Error, Request, Result
from .context import MAX_CHAIN, Identity, current_chain
from .usage import OTHERS, Usage
from .watched import CallWatch, WatchedCall

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Server"]

logger = logging.getLogger("lightbus.serving")

DOUBT = 0.5
"""Seconds after a standstill in which requests may still be old: the network's buffers hold some, too."""


MAX_TEXT = 20_000
MAX_TRACE = 100_000
MAX_ARG = 1_000
MAX_ARGS = 50
"""What a caller is told of a handler's exception where that is long: characters, and how many of its `args`."""

MAX_CALLERS = 4096
"""Calling processes whose service is remembered."""


class _Job:
    """One admitted request."""

    __slots__ = (
        "arguments",
        "arrived",
        "call_id",
        "cancelled",
        "counted",
        "deadline",
        "executed",
        "failed",
        "in_user_code",
        "inherited",
        "procedure",
        "request",
        "routing_id",
        "task",
    )

    def __init__(self, routing_id: bytes, call_id: int, request: Request, procedure: Procedure) -> None:
        self.routing_id = routing_id
        self.call_id = call_id
        self.request = request
        self.procedure = procedure
        self.arrived = time.monotonic()
        self.deadline = Deadline.after(request.left)
        self.inherited = Inherited(self.deadline)
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self.counted = False
        self.executed = False
        """Whether the user's code was reached."""
        self.in_user_code = False
        self.failed = False
        """Whether it is answered with an error."""
        self.arguments: bytes | None = None
        """What it was called with, where somebody watches."""

    @property
    def name(self) -> str:
        return f"{self.request.api}.{self.request.procedure}"

    @property
    def is_internal(self) -> bool:
        return self.request.api.startswith("internal.")


class Server:
    """
    Executes procedures for others. Only touched from the node's loop; `def` handlers run in the executor's threads.

    Args:
        identity: who we are; requests meant for another instance are refused.
        config: the settings: concurrency, queue, validation.
        apis: what is served.
        hooks: run around each execution.
        client: handed to the hooks.
        executor: where `def` handlers run. It must be able to run more of them than `rpc_concurrency`, since
            nested calls are not counted.
        reply: sends a frame to a routing id.
        serves_calls: whether calls are executed at all; those of `internal.` APIs are in any case.
        service_of: returns the service of a calling instance, or None; asked once for each.

    """

    def __init__(
        self,
        *,
        identity: Identity,
        config: Config,
        apis: ApiRegistry,
        hooks: HookRegistry,
        client: Any,
        executor: Executor,
        reply: Callable[[bytes, bytes], bool],
        serves_calls: bool = True,
        service_of: Callable[[str], str | None] = lambda instance: None,
    ) -> None:
        self.identity = identity
        self.draining = False
        self.standstills = 0
        """How often the loop stood still."""
        self.counts: Counter[str] = Counter()
        """served, failed, refused_busy, refused_draining, refused_standstill, refused_target, expired, cancelled."""
        self.running = 0
        self.usage: dict[tuple[str, str], Usage] = {}
        """Per (API, procedure) that was called; those of `internal.` APIs are not counted."""
        self.watch = CallWatch()
        """Who is shown the calls; those of `internal.` APIs are not."""
        self._services: dict[str, str] = {}
        self._service_of = service_of
        self._config = config
        self._apis = apis
        self._hooks = hooks
        self._client = client
        self._executor = executor
        self._reply_to = reply
        self._serves_calls = serves_calls
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[tuple[bytes, int], _Job] = {}
        self._queue: deque[_Job] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._doubtful_until = 0.0

    def stood_still(self, now: float) -> None:
        """
        Take in that the loop has just stood still for a while.

        What is found waiting now may have been given up by its callers long ago, and how old it is nobody can tell.
        So it is refused as not started, with a number: sent again with that number, it is known to be fresh.
        """
        self.standstills += 1
        self._doubtful_until = now + DOUBT

    def handle(self, routing_id: bytes, call_id: int, request: Request) -> None:
        """Take in a request: execute it, queue it or refuse it with the reason."""
        if request.left <= 0:
            self.counts["expired"] += 1  # nobody waits for an answer
            return
        if (refusal := self._refusal(request)) is not None:
            self._refuse(routing_id, call_id, request, refusal)
            return
        try:
            procedure = self._apis.get(request.api).get_procedure(request.procedure)
        except LightbusException as error:
            self._refuse(routing_id, call_id, request, Error(error.code, str(error), False, {}))
            return
        job = _Job(routing_id, call_id, request, procedure)
        if self.watch.is_on:
            job.arguments = self.watch.arguments_of(request)
        if self.identity.instance in request.chain or job.is_internal:
            # A call back into this process, for one that holds a place already: to have it wait would be a deadlock.
            # Questions about the worker are answered by one that is busy, too: that is when they are asked.
            self._start(job)
        elif self.running < self._config.worker.rpc_concurrency:
            self._count(job)
            self._start(job)
        elif len(self._queue) < self._config.worker.rpc_queue:
            self._jobs[routing_id, call_id] = job
            self._queue.append(job)
            self._idle.clear()
        else:
            self._refuse_busy(job)

    def cancel(self, routing_id: bytes, call_id: int) -> None:
        """Take in that nobody waits for a request any more. A `def` handler that runs cannot be stopped."""
        job = self._jobs.get((routing_id, call_id))
        if job is None:
            return
        job.cancelled = True
        self.counts["cancelled"] += 1
        if job in self._queue:
            self._queue.remove(job)
            self._jobs.pop((routing_id, call_id))
        elif job.task is not None and job.executed:  # a task that has not begun would end without a word to us
            job.task.cancel()

    @property
    def executing(self) -> int:
        """How many calls are executed now, nested ones included; those of `internal.` APIs are left out."""
        return sum(not job.is_internal for job in self._jobs.values()) - self.queued

    @property
    def queued(self) -> int:
        """How many calls wait for their turn, likewise."""
        return sum(not job.is_internal for job in self._queue)

    @property
    def is_doubtful(self) -> bool:
        """Whether the loop has just stood still, so that requests may be old."""
        return time.monotonic() < self._doubtful_until

    async def finish(self, seconds: float) -> int:
        """Wait until nothing runs, at most so long; return how many handlers were left behind."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            for job in list(self._jobs.values()):
                if job.task is not None:
                    job.task.cancel()
        return len(self._jobs)

    # Refusals

    def _refusal(self, request: Request) -> Error | None:
        me = self.identity
        if request.target != me.instance:
            self.counts["refused_target"] += 1
            text = f"the call was meant for the instance {request.target}, and this is {me}."
            return Error(PeerRefused.code, text, False, {"elsewhere": True})
        if self.draining:
            self.counts["refused_draining"] += 1
            return Error(PeerBusy.code, f"{me} is shutting down.", False, {"elsewhere": True})
        if self.is_doubtful and request.epoch != self.standstills:
            self.counts["refused_standstill"] += 1
            text = f"{me} stood still for a while, and does not know how old the call is."
            return Error(PeerBusy.code, text, False, {"elsewhere": True, "epoch": self.standstills})
        if not self._serves_calls and not request.api.startswith("internal."):
            text = f"{me} serves no calls: it runs without the feature 'rpcs' (--only, --skip)."
            return Error(PeerUnreachable.code, text, False, {"elsewhere": True})
        if len(request.chain) >= MAX_CHAIN:
            text = (
                f"{request.api}.{request.procedure} is {len(request.chain)} nested calls deep. Do they go in a circle?"
            )
            return Error(PeerRefused.code, text, False, {})
        return None

    def _refuse_busy(self, job: _Job) -> None:
        self.counts["refused_busy"] += 1
        limit = self._config.worker
        text = (
            f"{self.identity} runs {limit.rpc_concurrency} calls and has {limit.rpc_queue} waiting. "
            "Start a further worker, or raise worker.rpc_concurrency."
        )
        error = Error(PeerBusy.code, text, False, {"elsewhere": True})
        self._refuse(job.routing_id, job.call_id, job.request, error)

    def _refuse(self, routing_id: bytes, call_id: int, request: Request, error: Error) -> None:
        frame = envelope.encode(error, call_id)
        self._reply_to(routing_id, frame)
        if self.watch.is_on and (arguments := self.watch.arguments_of(request)) is not None:
            self._note_watched(request, time.monotonic(), arguments, frame)

    # Execution

    def _count(self, job: _Job) -> None:
        job.counted = True
        self.running += 1

    def _start(self, job: _Job) -> None:
        self._jobs[job.routing_id, job.call_id] = job
        self._idle.clear()
        if job.procedure.is_async:
            job.task = self._loop.create_task(self._run_async(job))
        else:
            self._executor.submit(contextvars.Context().run, self._run_blocking, job)

    async def _run_async(self, job: _Job) -> None:
        if job.cancelled:
            self._finished(job, b"")
            return
        try:
            self._enter(job)
            kwargs = self._arguments(job)
            job.executed = job.in_user_code = True
            if self._hooks.has("before_rpc_execution"):
                await self._hook("before_rpc_execution", job, kwargs)
            try:
                value = await job.procedure.function(**kwargs)
            except Exception as error:
                if self._hooks.has("after_rpc_execution"):
                    await self._hook("after_rpc_execution", job, kwargs, error)
                raise
            if self._hooks.has("after_rpc_execution"):
                await self._hook("after_rpc_execution", job, kwargs, value)
            job.in_user_code = False
            frame = self._result_frame(job, value)
        except BaseException as error:
            # SystemExit in a handler, too, must end neither the worker nor the wait of its caller.
            frame = self._error_frame(job, error)
        self._finished(job, frame)

    def _run_blocking(self, job: _Job) -> None:
        try:
            self._enter(job)
            kwargs = self._arguments(job)
            job.executed = job.in_user_code = True
            self._hook_blocking("before_rpc_execution", job, kwargs)
            try:
                value = job.procedure.function(**kwargs)
                if inspect.iscoroutine(value):  # an `async def` behind a decorator that does not show it
                    value = asyncio.run_coroutine_threadsafe(value, self._loop).result()
            except Exception as error:
                self._hook_blocking("after_rpc_execution", job, kwargs, error)
                raise
            self._hook_blocking("after_rpc_execution", job, kwargs, value)
            job.in_user_code = False
            frame = self._result_frame(job, value)
        except BaseException as error:
            frame = self._error_frame(job, error)
        try:
            self._loop.call_soon_threadsafe(self._finished, job, frame)
        except RuntimeError:
            logger.warning("%s ended after the worker had stopped; its caller gets no answer", job.name)

    def _enter(self, job: _Job) -> None:
        current_deadline.set(job.inherited)
        current_chain.set((*job.request.chain, self.identity.instance))

    def _arguments(self, job: _Job) -> dict[str, Any]:
        settings = self._config.api(job.request.api)
        signature = job.procedure.signature
        kwargs = job.request.kwargs
        if settings.validation.incoming:
            signature.validate(kwargs)
        return signature.cast(kwargs) if settings.cast_values else kwargs

    def _result_frame(self, job: _Job, value: Any) -> bytes:
        if self._config.api(job.request.api).validation.outgoing:
            job.procedure.signature.validate_response(value)
        try:
            frame = envelope.encode(Result(value), job.call_id)
        except DeformError as error:
            raise DeformError(f"The result of {job.name} cannot be sent: {error}") from None
        limit = self._config.network.max_message_size
        if len(frame) > limit:
            raise PayloadTooLarge(
                f"The result of {job.name} takes {len(frame)} bytes; a message may have {limit}. "
                "Return less, or raise network.max_message_size on both sides."
            )
        return frame

    def _error_frame(self, job: _Job, error: BaseException) -> bytes:
        if job.cancelled and isinstance(error, asyncio.CancelledError):
            return b""
        job.failed = True
        message = _describe(job, error)
        if message.code == LightbusWorkerError.code:
            self.counts["failed"] += 1
            logger.warning("%s", message.message, exc_info=error)
        with contextlib.suppress(DeformError):
            frame = envelope.encode(message, job.call_id)
            if len(frame) <= self._config.network.max_message_size:
                return frame
        args = [_sendable(arg) for arg in error.args[:MAX_ARGS]]
        return envelope.encode(message._replace(details={**message.details, "args": args}), job.call_id)

    def _finished(self, job: _Job, frame: bytes) -> None:
        self._jobs.pop((job.routing_id, job.call_id), None)
        job.inherited.end()
        self.counts["served"] += 1
        if frame and not job.cancelled:
            self._reply_to(job.routing_id, frame)
            self._note_usage(job)
        if job.counted:
            self.running -= 1
            self._start_next()
        if not self._jobs:
            self._idle.set()
        if job.arguments is not None:
            self._note_watched(job.request, job.arrived, job.arguments, b"" if job.cancelled else frame)

    def _note_usage(self, job: _Job) -> None:
        if job.is_internal:
            return
        request = job.request
        usage = self.usage.get((request.api, request.procedure))
        if usage is None:
            usage = self.usage[request.api, request.procedure] = Usage()
        service = self._services.get(request.caller) or self._look_up(request.caller)
        usage.note(time.monotonic() - job.arrived, service, failed=job.failed)

    def _note_watched(self, request: Request, arrived: float, arguments: bytes, frame: bytes) -> None:
        now = time.monotonic()
        service = self._services.get(request.caller) or self._look_up(request.caller)
        took = now - arrived
        self.watch.note(now, WatchedCall(request, service, time.time() - took, took, arguments, frame))

    def _look_up(self, caller: str) -> str:
        service = self._service_of(caller)
        if service is None:
            return OTHERS
        if len(self._services) >= MAX_CALLERS:
            self._services.clear()
        self._services[caller] = service
        return service

    def _start_next(self) -> None:
        while self._queue and self.running < self._config.worker.rpc_concurrency:
            job = self._queue.popleft()
            if job.cancelled or job.deadline.passed():
                self.counts["expired"] += 1
                self._jobs.pop((job.routing_id, job.call_id), None)
                continue
            self._count(job)
            self._start(job)

    # Hooks

    async def _hook(self, name: str, job: _Job, kwargs: dict[str, Any], *result: Any) -> None:
        await self._hooks.run(name, call_sync=self.call_sync, **self._details(job, kwargs, *result))

    def _hook_blocking(self, name: str, job: _Job, kwargs: dict[str, Any], *result: Any) -> None:
        if self._hooks.has(name):
            self._hooks.run_blocking(name, **self._details(job, kwargs, *result))

    async def call_sync(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a `def` function of the user's in a thread, with the context of the caller."""
        context = contextvars.copy_context()
        return await self._loop.run_in_executor(self._executor, lambda: context.run(function, *args, **kwargs))

    def _details(self, job: _Job, kwargs: dict[str, Any], *result: Any) -> dict[str, Any]:
        message = RpcMessage(
            api_name=job.request.api, procedure_name=job.request.procedure, kwargs=kwargs, id=str(job.call_id)
        )
        details: dict[str, Any] = {"client": self._client, "rpc_message": message}
        if result:
            details["result_message"] = ResultMessage(
                result=result[0],
                rpc_message_id=message.id,
                api_name=message.api_name,
                procedure_name=message.procedure_name,
                error=isinstance(result[0], Exception),
                trace=safely(_trace, result[0]) if isinstance(result[0], Exception) else "",
            )
        return details


def _describe(job: _Job, error: BaseException) -> Error:
    """Return what the caller is told: our own complaints about the call as such, anything else as the handler's."""
    if isinstance(error, InvalidArguments) and not job.in_user_code:
        return Error(error.code, str(error), job.executed, {})
    kind = type(error)
    return Error(
        LightbusWorkerError.code,
        f"{job.name} raised {kind.__name__}: {safely(str, error)[:MAX_TEXT]}",
        True,
        {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "args": list(error.args),
            "trace": safely(_trace, error)[-MAX_TRACE:],
        },
    )


def _sendable(arg: Any) -> Any:
    """Return an argument of an exception, or its `repr` where it is too long or of no type that can be sent."""
    with contextlib.suppress(DeformError):
        if len(codec.encode(arg)) <= MAX_ARG:
            return arg
    return safely(repr, arg)[:MAX_ARG]


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
