"""The way of a request: decode -> admit -> validate -> handler -> reply.

Whatever it is, it is answered; nothing a peer sends stops a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor
from typing import TYPE_CHECKING, Any, cast

from ..core.admission import PROBE_AFTER, Admission
from ..deadline import Deadline, ServedCall
from ..exceptions import (
    DeformError,
    InvalidArguments,
    LightbusException,
    PayloadTooLarge,
    PeerBusy,
    PeerRefused,
    PeerUnreachable,
    safely,
)
from ..membership.context import MAX_CHAIN, Identity
from ..message import ResultMessage, RpcMessage
from ..service.api import ApiRegistry, Procedure
from ..service.execution import Execution
from ..service.failures import describe, encode_error, is_a, report, trace_of
from ..service.hooks import HookRegistry
from ..wire import envelope
from ..wire.envelope import Error, Request, Result
from ..wire.sizes import LEAST, most
from .statistics import OTHERS, Usage
from .trace import CallWatch, WatchedCall

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Server"]

logger = logging.getLogger("lightbus.serving")

DOUBT = 0.5
"""Seconds after a standstill in which requests may still be old: the network's buffers hold some, too."""

MAX_NESTED = 100
MAX_NESTED_IN_ALL = 1000
"""Calls at the same time for which one call of ours waits, and for which any do: they need no place, either."""

MAX_INTERNAL = 256
"""Calls of `internal.` APIs at the same time; they need no place, and so need a bound of their own."""

SMALL = 4096
"""Bytes of a request that waits as it was decoded. A larger one could take sixty times its bytes, if it is of lists."""

MAX_MEMORY = 128 * 1024 * 1024
"""
Bytes that the arguments of all calls take that are executed at the same time, about, or those of a single one: a call
that asks for more waits, though there is a place.
"""

MAX_CALLERS = 4096
"""Calling processes whose service is remembered."""


class _Job:
    """One admitted request."""

    __slots__ = (
        "arguments",
        "arrived",
        "began",
        "call_id",
        "cancelled",
        "counted",
        "deadline",
        "ended",
        "executed",
        "execution",
        "failed",
        "frame",
        "holder",
        "in_user_code",
        "mark",
        "memory",
        "nested",
        "procedure",
        "request",
        "routing_id",
        "served",
        "size",
        "task",
    )

    def __init__(
        self, routing_id: bytes, call_id: int, request: Request, procedure: Procedure, size: int, marks: dict[str, _Job]
    ) -> None:
        self.routing_id = routing_id
        self.call_id = call_id
        self.request = request
        self.procedure = procedure
        self.size = size
        self.memory = size
        """Bytes that its arguments take, about."""
        self.frame = b""
        """What is decoded again once it is begun, where it waits and is large."""
        self.arrived = self.began = time.monotonic()
        """When it came in, and when it was last begun with: its start was ordered, its handler has its turn."""
        self.deadline = Deadline.in_seconds(request.left)
        self.holder: _Job | None = None
        """The call here that waits for this one."""
        self.nested = 0
        """How many calls that it waits for are executed here."""
        self.mark = ""

        def make_mark() -> str:  # nobody can name a call of ours who was not told of it by a call that it made
            self.mark = f"{self.request.target}:{os.urandom(8).hex()}"
            marks[self.mark] = self
            return self.mark

        self.served = ServedCall(self.deadline, tuple(request.chain), make_mark)
        self.ended: float | None = None
        """When its thread had done with it."""
        self.task: asyncio.Task[None] | None = None
        self.execution: Execution | None = None
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
        hooks: run around each execution, but for those of `internal.` APIs.
        client: handed to the hooks.
        executor: where `def` handlers run. It must be able to run more of them than `rpc_concurrency`, since
            nested calls are not counted.
        reply: sends a frame to a routing id.
        serves_calls: whether calls are executed at all; those of `internal.` APIs are in any case.
        service_of: returns the service of a calling instance, or None; asked once for each.
        max_message_size_of: returns the bytes that a message to a calling instance may have, or 0; from any thread.

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
        max_message_size_of: Callable[[str], int] = lambda instance: 0,
    ) -> None:
        self.identity = identity
        self.draining = False
        self.stall_count = 0
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
        self._max_message_size_of = max_message_size_of
        self._config = config
        self._apis = apis
        self._hooks = hooks
        self._client = client
        self._executor = executor
        self._reply_to = reply
        self._serves_calls = serves_calls
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[tuple[bytes, int], _Job] = {}
        self._marks: dict[str, _Job] = {}
        """By their marks the calls that have called somebody, who may call back."""
        self._queue: deque[_Job] = deque()
        self._queued_bytes = 0
        self._memory = 0
        """Bytes that the arguments of all calls take that are executed."""
        self._nested = 0
        """How many calls are executed for which calls of ours wait."""
        self._internal = 0
        """How many calls of `internal.` APIs are executed."""
        self._admission = Admission(config.worker.rpc_concurrency, config.worker.max_queue_time)
        self._probe_is_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._doubtful_until = 0.0

    def loop_stalled(self, now: float) -> None:
        """
        Record that the loop has just stood still for a while.

        What is found waiting now may have been given up by its callers long ago, and how old it is nobody can tell.
        So it is refused as not started, with a number: sent again with that number, it is known to be fresh.
        """
        self.stall_count += 1
        self._doubtful_until = now + DOUBT

    def handle(self, routing_id: bytes, call_id: int, request: Request, frame: bytes = b"", memory: int = 0) -> None:
        """
        Take in a request that came as this frame: execute it, queue it or refuse it with the reason.

        `memory` is how many bytes its arguments take, where that is known to be more than those of the frame.
        """
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
        job = _Job(routing_id, call_id, request, procedure, len(frame), self._marks)
        if memory:
            job.memory = memory
        if self.watch.is_on:
            job.arguments = self.watch.arguments_of(request)
        if job.is_internal:
            # Questions about the worker are answered by one that is busy, too: that is when they are asked.
            self._take_internal(job)
        elif (holder := self._holder_of(request)) is not None:
            # A call back into this process, for one that holds a place already: to have it wait would be a deadlock.
            self._take_nested(job, holder)
        else:
            self._admit(job, frame)

    def _take_internal(self, job: _Job) -> None:
        if self._internal >= MAX_INTERNAL:
            self._refuse_busy(job, f"answers {MAX_INTERNAL} questions about itself")
            return
        if not self._has_room(job):
            self._refuse_for_memory(job)
            return
        self._internal += 1
        self._start(job)

    def _take_nested(self, job: _Job, holder: _Job) -> None:
        if holder.nested >= MAX_NESTED or self._nested >= MAX_NESTED_IN_ALL:
            self._refuse_busy(job, f"executes {self._nested} calls already for which calls of its own wait")
            return
        if not self._has_room(job):
            self._refuse_for_memory(job)
            return
        holder.nested += 1
        self._nested += 1
        job.holder = holder
        self._start(job)

    def _holder_of(self, request: Request) -> _Job | None:
        """Return the call of ours that waits for this one; None where none does, whatever the chain claims."""
        for mark in reversed(request.chain):
            if (job := self._marks.get(mark)) is not None:
                return job
        return None

    def _admit(self, job: _Job, frame: bytes) -> None:
        """Execute a call that needs a place, have it wait for one, or refuse it."""
        admission, now = self._admission, job.arrived
        admission.arrived(now)
        if self.running < admission.limit and not self._queue and self._has_room(job):
            self._count(job)
            self._start(job)
        elif (reason := self._reason_not_to_wait(job, now)) is not None:
            self._probe_later()
            self._refuse_busy(job, reason)
        else:
            if len(frame) > SMALL:
                job.frame, job.request = frame, job.request._replace(kwargs={})
            self._jobs[job.routing_id, job.call_id] = job
            self._queue.append(job)
            self._queued_bytes += job.size
            self._idle.clear()
            admission.queue_is(len(self._queue), now)
            self._probe_later()

    def _has_room(self, job: _Job) -> bool:
        """Return whether there is memory for the arguments of a call."""
        return not self._memory or self._memory + job.memory <= MAX_MEMORY

    def _refuse_for_memory(self, job: _Job) -> None:
        self._refuse_busy(job, f"executes calls whose arguments take {self._memory >> 20} MiB of memory")

    def _reason_not_to_wait(self, job: _Job, now: float) -> str | None:
        limit, ahead = self._config.worker, len(self._queue)
        if ahead >= limit.rpc_queue:
            return f"runs {self.running} calls and has {ahead} waiting"
        if ahead and self._queued_bytes + job.size > self._config.network.max_message_size:
            return f"has {ahead} calls of {self._queued_bytes} bytes waiting"
        if not self._admission.may_wait(ahead, job.deadline.at - now, now):
            return f"runs {self.running} calls and has {ahead} waiting, and cannot begin a further one soon enough"
        return None

    def cancel(self, routing_id: bytes, call_id: int) -> None:
        """Record that nobody waits for a request any more. A `def` handler that runs cannot be stopped."""
        job = self._jobs.get((routing_id, call_id))
        if job is None:
            return
        job.cancelled = True
        self.counts["cancelled"] += 1
        if job in self._queue:
            self._queue.remove(job)
            self._left_queue(job)
            self._jobs.pop((routing_id, call_id))
        elif job.executed:  # a task that has not begun would end without a word to us
            self._interrupt(job)

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
                self._interrupt(job)
        return len(self._jobs)

    def _interrupt(self, job: _Job) -> None:
        if job.task is not None:
            job.task.cancel()
        elif job.execution is not None:
            job.execution.cancel()

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
        if self.is_doubtful and request.epoch != self.stall_count:
            self.counts["refused_standstill"] += 1
            text = f"{me} stood still for a while, and does not know how old the call is."
            return Error(PeerBusy.code, text, False, {"elsewhere": True, "epoch": self.stall_count})
        if not self._serves_calls and not request.api.startswith("internal."):
            text = (
                f"{me} serves no calls: it only publishes events, or runs without the feature 'rpcs' (--only, --skip). "
                f"Is a worker of the API '{request.api}' running (lightbus run)?"
            )
            return Error(PeerUnreachable.code, text, False, {"elsewhere": True})
        if len(request.chain) >= MAX_CHAIN:
            return Error(PeerRefused.code, _too_deep(request), False, {})
        return None

    def _refuse_busy(self, job: _Job, reason: str) -> None:
        self.counts["refused_busy"] += 1
        text = f"{self.identity} {reason}. Start a further worker, or raise worker.rpc_concurrency."
        error = Error(PeerBusy.code, text, False, {"elsewhere": True})
        if self.watch.is_on:
            self._decode_again(job)
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
        self._memory += job.memory
        self._idle.clear()
        job.began = time.monotonic()
        if job.procedure.is_async:
            job.task = self._loop.create_task(self._run_async(job))
        else:
            self._executor.submit(contextvars.Context().run, self._run_blocking, job)

    async def _run_async(self, job: _Job) -> None:
        frame = b""
        if job.counted:
            self._note_beginning(job, time.monotonic())
        try:
            if not job.cancelled:
                frame = self._result_frame(job, await self._execute(job))
        except BaseException as error:  # SystemExit, too, must end neither the worker nor the wait of its caller
            frame = self._error_frame(job, error)
        finally:
            self._finished(job, frame)

    async def _execute(self, job: _Job) -> Any:
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if hooks.has("before_rpc_execution") and not job.is_internal:
            await hooks.run("before_rpc_execution", execution.call, **self._details(job, kwargs))
        try:
            value = await execution.call(job.procedure.function, (), kwargs, on_loop=True)
        except BaseException as error:
            if hooks.has("after_rpc_execution") and not (job.cancelled or job.is_internal):
                details = self._details(job, kwargs, error, failed=True)
                await hooks.run("after_rpc_execution", execution.call, **details)
            raise
        if hooks.has("after_rpc_execution") and not job.is_internal:
            await hooks.run("after_rpc_execution", execution.call, **self._details(job, kwargs, value, failed=False))
        job.in_user_code = False
        return value

    def _run_blocking(self, job: _Job) -> None:
        frame = b""
        if job.counted:
            self._note_beginning_in_thread(job)
        try:
            frame = self._result_frame(job, self._execute_blocking(job))
        except BaseException as error:
            frame = self._error_frame(job, error)
        job.ended = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._finished, job, frame)
        except RuntimeError:
            logger.warning("%s ended after the worker had stopped; its caller gets no answer", job.name)

    def _execute_blocking(self, job: _Job) -> Any:
        """Do as `_execute` does, all in this thread: what a `def` hook does to its thread is there for the handler."""
        hooks, kwargs, execution = self._hooks, *self._begin(job)
        if hooks.has("before_rpc_execution") and not job.is_internal:
            hooks.run_blocking("before_rpc_execution", execution.call_blocking, **self._details(job, kwargs))
        try:
            value = execution.call_blocking(job.procedure.function, (), kwargs)
        except BaseException as error:
            if hooks.has("after_rpc_execution") and not (job.cancelled or job.is_internal):
                details = self._details(job, kwargs, error, failed=True)
                hooks.run_blocking("after_rpc_execution", execution.call_blocking, **details)
            raise
        if hooks.has("after_rpc_execution") and not job.is_internal:
            details = self._details(job, kwargs, value, failed=False)
            hooks.run_blocking("after_rpc_execution", execution.call_blocking, **details)
        job.in_user_code = False
        return value

    def _begin(self, job: _Job) -> tuple[dict[str, Any], Execution]:
        """Return the arguments, and the execution that serves the call. Raises where they do not fit."""
        kwargs = self._arguments(job)
        job.execution = Execution(self._loop, self._executor, job.served)
        job.executed = job.in_user_code = True
        return kwargs, job.execution

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
        if len(frame) > LEAST and len(frame) > (limit := self._most(job)):
            own = self._config.network.max_message_size
            who = "the caller takes messages of" if limit < own else "a message may have"
            ours = f" (this process may send {own})" if limit < own else ""
            raise PayloadTooLarge(
                f"The result of {job.name} takes {len(frame)} bytes; {who} {limit}{ours}. "
                "Return less, or raise network.max_message_size on both sides."
            )
        return frame

    def _most(self, job: _Job) -> int:
        """Return the bytes that the answer to a call may have."""
        return most(self._config.network.max_message_size, self._max_message_size_of(job.request.caller))

    def _error_frame(self, job: _Job, error: BaseException) -> bytes:
        if job.cancelled and (is_a(error, asyncio.CancelledError) or is_a(error, CancelledError)):
            return b""
        job.failed = True
        if is_a(error, InvalidArguments) and not job.in_user_code:  # our own complaint about the call as such
            message = Error(cast(InvalidArguments, error).code, safely(str, error), job.executed, {})
        else:
            message = describe(job.name, error)
            self.counts["failed"] += 1
            report(logger, logging.WARNING, error, "%s", message.message)
        return encode_error(message, job.call_id, self._most(job))

    def _finished(self, job: _Job, frame: bytes) -> None:
        self._jobs.pop((job.routing_id, job.call_id), None)
        job.served.end()
        self.counts["served"] += 1
        self._memory -= job.memory
        if job.counted:
            self.running -= 1
        try:
            self._answer(job, frame)
        except Exception:
            logger.exception("The end of %s could not be noted: this is a fault of ours", job.name)
        self._give_place_back(job)
        if not self._jobs:
            self._idle.set()

    def _answer(self, job: _Job, frame: bytes) -> None:
        if frame and not job.cancelled:
            self._reply_to(job.routing_id, frame)
            self._note_usage(job)
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

    # Places

    def _note_beginning(self, job: _Job, now: float) -> None:
        """Note that the handler of a call has its turn, and how long that took since its start."""
        delay, job.began = now - job.began, now
        if self._admission.began(delay, self.running, now) and self._queue:
            self._start_next()

    def _note_beginning_in_thread(self, job: _Job) -> None:
        now = time.monotonic()
        delay, job.began = now - job.began, now
        if self._admission.is_content_with(delay) and not self._queue:
            return  # as nearly always: to tell the loop costs more than all the rest
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is started any more
            self._loop.call_soon_threadsafe(self._began_in_thread, delay)

    def _began_in_thread(self, delay: float) -> None:
        if self._admission.began(delay, self.running, time.monotonic()) and self._queue:
            self._start_next()

    def _give_place_back(self, job: _Job) -> None:
        if job.mark:
            self._marks.pop(job.mark, None)
        if job.counted:
            now = time.monotonic()
            if job.ended is not None:
                self._admission.began(now - job.ended, self.running + 1, now)  # this loop, too, waits for its turn
            self._admission.finished(now - job.began, now)
        elif job.holder is not None:
            job.holder.nested -= 1
            self._nested -= 1
        elif job.is_internal:
            self._internal -= 1
        if self._queue:
            self._start_next()

    def _start_next(self) -> None:
        now = time.monotonic()
        while self._queue and self.running < self._admission.limit and self._has_room(self._queue[0]):
            job = self._queue.popleft()
            self._left_queue(job)
            if job.cancelled or job.deadline.passed():
                self.counts["expired"] += 1
                self._jobs.pop((job.routing_id, job.call_id), None)
            elif self._admission.has_waited_too_long(now - job.arrived, now):
                self._jobs.pop((job.routing_id, job.call_id), None)
                self._refuse_busy(job, f"did not come to this call within {now - job.arrived:.2f} s")
            else:
                self._count(job)
                self._decode_again(job)
                self._start(job)

    def _decode_again(self, job: _Job) -> None:
        if job.frame:
            _, request = envelope.decode(job.frame)
            job.frame, job.request = b"", cast(Request, request)

    def _left_queue(self, job: _Job) -> None:
        self._queued_bytes -= job.size
        self._admission.queue_is(len(self._queue), time.monotonic())

    def _probe_later(self) -> None:
        """See to it that calls that wait are begun, also where none begins or ends for a while."""
        if not self._probe_is_due:
            self._probe_is_due = True
            self._loop.call_later(PROBE_AFTER, self._probe)

    def _probe(self) -> None:
        self._probe_is_due = False
        may_start = self._admission.probe(time.process_time(), time.monotonic())
        if self._queue:
            if may_start:
                self._start_next()
            self._probe_later()

    def _details(self, job: _Job, kwargs: dict[str, Any], result: Any = None, *, failed: bool | None = None) -> Any:
        """Return what hooks are told: of the call, and of its result once it is known whether it `failed`."""
        message = RpcMessage(
            api_name=job.request.api, procedure_name=job.request.procedure, kwargs=kwargs, id=str(job.call_id)
        )
        details: dict[str, Any] = {"client": self._client, "rpc_message": message}
        if failed is not None:
            details["result_message"] = ResultMessage(
                result=result,
                rpc_message_id=message.id,
                api_name=message.api_name,
                procedure_name=message.procedure_name,
                error=failed,
                trace=trace_of(result) if failed else "",
            )
        return details


def _too_deep(request: Request) -> str:
    depth, instances = len(request.chain), len({mark[:16] for mark in request.chain})
    text = f"{request.api}.{request.procedure} is {depth} calls deep, each of which waits for the next; no more may. "
    if instances < depth:
        text += "Some processes are in it more than once: is it a circle? If not, "
    return text + "have a handler answer first, and do the rest in a task of its own, or for an event that it fires."
