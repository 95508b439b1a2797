"""The path of a request: decode -> admit -> validate -> handler -> reply.

Every request is answered; nothing that a peer sends stops a worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ..config import Config
from ..exceptions import LightbusException, PeerBusy, PeerRefused, PeerUnreachable
from ..membership.context import MAX_CHAIN, Identity
from ..phrases import INTERNAL_ERROR
from ..service.api import ApiRegistry
from ..service.hooks import HookRegistry
from ..wire import envelope
from ..wire.envelope import Error, Request
from .call_log import CallLog
from .callee import Callee
from .job import Job
from .places import CallPlaces
from .replies import Replies
from .runner import HandlerExecutor, Runner

__all__ = ["STALL_GRACE", "Server"]

logger = logging.getLogger("lightbus.serving")

STALL_GRACE = 0.5
"""Seconds after a stall in which requests may still be old: network buffers hold some, too."""

LARGE = 64 * 1024
"""
Bytes from which on an answer is sent by the loop, also where a thread has executed the call; and bytes of arguments
from which on the loop is woken at the end of a call, to release their memory.
"""

MAX_ENDED = 64
"""Calls answered by threads after which the loop is woken to count them."""


class Server:
    """
    Executes procedures for other peers. Only used from the node's loop; `def` handlers run in the executor's threads.

    Args:
        identity: the identity of this process; requests for another instance are refused.
        config: the settings: concurrency, queue, validation.
        apis: the APIs to serve.
        hooks: run around each execution, except those of `internal.` APIs.
        client: passed to the hooks.
        executor: runs `def` handlers. It must be able to run more than `rpc_concurrency` at once, since nested calls
            are not counted.
        reply: sends a frame to a routing id.
        reply_from_thread: does the same from another thread.
        serves_calls: whether calls are executed; those of `internal.` APIs always are.
        service_of: returns the service of a calling instance, or None; called once for each instance that it knows.
        max_message_size_of: returns the largest message, in bytes, that a calling instance takes, or 0 if unknown.
            Thread-safe.

    """

    def __init__(
        self,
        *,
        identity: Identity,
        config: Config,
        apis: ApiRegistry,
        hooks: HookRegistry,
        client: Any,
        executor: HandlerExecutor,
        reply: Callable[[bytes, bytes], bool],
        reply_from_thread: Callable[[bytes, bytes], bool],
        serves_calls: bool = True,
        service_of: Callable[[str], str | None] = lambda instance: None,
        max_message_size_of: Callable[[str], int] = lambda instance: 0,
    ) -> None:
        self.identity = identity
        self._draining = False
        self.stall_count = 0
        """How often the loop stalled."""
        self._counts: Counter[str] = Counter()
        self._log = CallLog(service_of)
        self._apis = apis
        self._config = config
        self._executor = executor
        self._reply_to = reply
        self._reply_from_thread = reply_from_thread
        self._serves_calls = serves_calls
        self._loop = asyncio.get_running_loop()
        self._callees: dict[tuple[str, str], Callee] = {}
        self._jobs: dict[tuple[bytes, int], Job] = {}
        """The executed and the queued calls, by routing id and call id."""
        self._ended: deque[tuple[Job, bytes]] = deque()
        """Calls ended by threads that the loop has not counted yet. Threads use only this attribute and `_sending`."""
        self._sending: deque[Job] = deque()
        """One entry for each answer that a thread is sending; only the number counts, not which calls they are."""
        self._idle: asyncio.Event | None = None
        """Set when no call is executed or queued; None until `finish` awaits that."""
        self._stalled_until = 0.0
        self._places = CallPlaces(config, self._loop, self._counts, self._start, self._drop)
        self._runner = self._make_runner(hooks, client, Replies(config, self._counts, max_message_size_of))

    def _make_runner(self, hooks: HookRegistry, client: Any, replies: Replies) -> Runner:
        return Runner(
            hooks=hooks,
            client=client,
            loop=self._loop,
            executor=self._executor,
            places=self._places,
            replies=replies,
            finished=self._finished,
            finished_in_thread=self._finished_in_thread,
        )

    def loop_stalled(self, now: float) -> None:
        """
        Record that the loop was stalled until now.

        Received requests may have been given up by their callers long ago, and their age is unknown. So each is
        refused as not started, with the stall count: a request that is sent again with that count is fresh.
        """
        self.stall_count += 1
        self._stalled_until = now + STALL_GRACE

    def handle(
        self, routing_id: bytes, call_id: int, request: Request, frame: bytes = b"", memory: int = 0, now: float = 0.0
    ) -> None:
        """
        Execute a request, queue it, or refuse it with the reason. `frame` is the request as it was received.

        `memory` is the number of bytes that the arguments take, if it is known to be more than the size of the frame.
        """
        if self._ended:
            self._finish_ended()
        if request.left <= 0:
            self._counts["expired"] += 1  # the caller has given up
            return
        if (
            request.target != self.identity.instance
            or self._draining
            or self._stalled_until > 0.0
            or not self._serves_calls
            or len(request.chain) >= MAX_CHAIN
        ) and (refusal := self._refusal(request)) is not None:
            self._refuse(routing_id, call_id, request, refusal)
            return
        callee = self._callees.get((request.api, request.procedure))
        if callee is None or self._apis.by_name.get(request.api) is not callee.api:
            try:
                callee = self._make_callee(request)
            except LightbusException as error:
                self._refuse(routing_id, call_id, request, Error(error.code, str(error), False, {}))
                return
        places, key, now = self._places, (routing_id, call_id), now or time.monotonic()
        job = Job(routing_id, call_id, request, callee, memory or len(frame), places.marks, now)
        if self._log.watch.watchers:
            job.arguments = self._log.watch.arguments_of(request)
        if self._jobs.setdefault(key, job) is not job:  # before `admit`, which may execute and answer the call
            self._refuse(routing_id, call_id, request, _id_in_use(call_id))
        elif reason := places.admit(job, frame):
            self._forget(job)
            self._refuse_busy(job, reason)
        elif self._ended and places.waiting:
            self._finish_ended()  # a thread that ended just now saw an empty queue, and did not wake the loop

    def _make_callee(self, request: Request) -> Callee:
        """Return the called procedure, and cache it. Raises LightbusException if it does not exist."""
        api = self._apis.get(request.api)
        callee = Callee(api, api.get_procedure(request.procedure), self._config.api(request.api))
        self._callees[request.api, request.procedure] = callee
        return callee

    def cancel(self, routing_id: bytes, call_id: int) -> None:
        """Cancel a request whose caller gave up. A `def` handler that runs cannot be stopped."""
        job = self._jobs.get((routing_id, call_id))
        if job is None:
            return
        job.cancelled = True
        self._counts["cancelled"] += 1
        if self._places.remove_queued(job):
            self._forget(job)
        elif job.execution is not None:  # a task cancelled before it runs would not report its end
            job.interrupt()

    @property
    def counts(self) -> Counter[str]:
        """served, failed, refused_busy, refused_draining, refused_standstill, refused_target, expired, cancelled."""
        self._finish_ended()
        return self._counts

    @property
    def log(self) -> CallLog:
        """The log of answered calls."""
        self._finish_ended()
        return self._log

    @property
    def running(self) -> int:
        """How many calls hold a place."""
        self._finish_ended()
        return self._places.running

    @property
    def executed_now(self) -> list[str]:
        """The sorted names of the procedures that are being executed; without queued calls."""
        return sorted({job.callee.name for job in self._jobs.values() if job.execution is not None})

    @property
    def executing(self) -> int:
        """How many calls are being executed, including nested ones; without those of `internal.` APIs."""
        self._finish_ended()
        return sum(not job.callee.is_internal for job in self._jobs.values()) - self.queued

    @property
    def queued(self) -> int:
        """How many calls are queued; without those of `internal.` APIs."""
        return sum(not job.callee.is_internal for job in self._places.waiting)

    @property
    def has_just_stalled(self) -> bool:
        """Whether the loop was stalled within the last STALL_GRACE, so that requests may be old."""
        return self._stalled_until > 0.0 and time.monotonic() < self._stalled_until

    def drain(self) -> None:
        """Refuse all further requests, as not started."""
        self._draining = True

    async def finish(self, seconds: float) -> int:
        """Wait until no call is executed or queued; interrupt those left after so long, and return their number."""
        self._idle = asyncio.Event()
        self._finish_ended()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for job in list(self._jobs.values()):
                job.interrupt()
        return len(self._jobs)

    # Refusals

    def _refusal(self, request: Request) -> Error | None:
        me = self.identity
        if request.target != me.instance:
            self._counts["refused_target"] += 1
            text = f"the call was meant for the instance {request.target}, and this is {me}."
            return Error(PeerRefused.code, text, False, {"elsewhere": True})
        if self._draining:
            self._counts["refused_draining"] += 1
            return Error(PeerBusy.code, f"{me} is shutting down.", False, {"elsewhere": True, "leaving": True})
        if not self.has_just_stalled:
            self._stalled_until = 0.0
        elif request.stall_count != self.stall_count:
            self._counts["refused_standstill"] += 1
            text = f"{me} was blocked for a while, and does not know how old the call is."
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

    def _refuse_busy(self, job: Job, reason: str) -> None:
        self._counts["refused_busy"] += 1
        text = f"{self.identity} {reason}. Start a further worker, or raise worker.rpc_concurrency."
        error = Error(PeerBusy.code, text, False, {"elsewhere": True})
        if self._log.watch.is_on and job.arguments is None:
            job.decode_again()
        self._refuse(job.routing_id, job.call_id, job.request, error, job.arguments)

    def _refuse(
        self, routing_id: bytes, call_id: int, request: Request, error: Error, arguments: bytes | None = None
    ) -> None:
        frame = envelope.encode(error, call_id)
        self._reply_to(routing_id, frame)
        watch = self._log.watch
        if watch.is_on and (arguments := arguments or watch.arguments_of(request)) is not None:
            self._log.show(request, time.monotonic(), arguments, frame)

    # Start and end of a call

    def _start(self, job: Job) -> None:
        callee, runner = job.callee, self._runner
        if not callee.procedure.is_async:
            try:
                self._executor.run(runner.run_blocking, job)
            except RuntimeError as error:  # no thread is free, and none can be started
                self._forget(job)
                self._refuse_busy(job, f"has no thread for it ({error})")
                self._loop.call_soon(self._places.release, job)  # not now: it may start the next call
        elif not (callee.was_quick and callee.never_suspends and runner.run_at_once(job)):  # `is_executed_at_once`
            job.task = self._loop.create_task(runner.run(job))

    def _drop(self, job: Job, reason: str) -> None:
        """Drop a queued call; send its caller the reason, if there is one."""
        self._forget(job)
        if reason:
            self._refuse_busy(job, reason)

    def _forget(self, job: Job) -> None:
        self._jobs.pop((job.routing_id, job.call_id), None)
        if self._idle is not None:
            self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not self._jobs and not self._sending:
            self._idle.set()

    def _finished(self, job: Job, frame: bytes) -> None:
        job.served.end()
        self._counts["served"] += 1
        try:
            if job.answered_by_thread or (frame and not job.cancelled):
                if not job.answered_by_thread:
                    self._reply_to(job.routing_id, frame)
                self._log.note_usage(job)
            if job.arguments is not None:
                self._log.show(job.request, job.arrived, job.arguments, b"" if job.cancelled else frame)
        except Exception:
            logger.exception("The end of %s could not be recorded: %s", job.name, INTERNAL_ERROR)
        self._jobs.pop((job.routing_id, job.call_id), None)
        if self._idle is not None:
            self._check_idle()
        self._places.release(job)

    def _finished_in_thread(self, job: Job, frame: bytes) -> None:
        """
        Answer a call from the thread that has executed it, and wake the loop only if needed.

        To wake the loop for each answer would take longer than the rest of the call, and delay the answer.
        """
        job.served.end()
        try:
            if frame and job.arguments is None and not job.cancelled and len(frame) < LARGE:
                job.answered_by_thread = True  # also if the caller is gone: the loop must not try again
                self._sending.append(job)
                self._ended.append((job, frame))  # before the answer: a caller that calls again finds the place free
                try:
                    self._reply_from_thread(job.routing_id, frame)
                finally:
                    self._sending.popleft()  # perhaps another call's: only the number matters
            else:
                self._ended.append((job, frame))
            is_much = job.memory >= LARGE or len(self._ended) > MAX_ENDED
            if not job.answered_by_thread or is_much or self._places.waiting or self._idle is not None:
                job.loop_woken_at = time.monotonic()
                self._loop.call_soon_threadsafe(self._finish_ended)
        except RuntimeError:
            logger.warning("%s ended after the worker had stopped; its caller gets no answer", job.name)

    def _finish_ended(self) -> None:
        while self._ended:
            self._finished(*self._ended.popleft())
        self._check_idle()


def _id_in_use(call_id: int) -> Error:
    # If the later call replaced the earlier one, the earlier could no longer be counted, cancelled or awaited.
    text = f"the id {call_id} is that of a call on the same connection that is not answered yet: give each its own id."
    return Error(PeerRefused.code, text, False, {})


def _too_deep(request: Request) -> str:
    depth, instances = len(request.chain), len({mark[:16] for mark in request.chain})
    text = f"{request.api}.{request.procedure} is {depth} calls deep, each of which waits for the next; no more may. "
    if instances < depth:
        text += "Some processes are in it more than once: is it a circle? If not, "
    return text + "have a handler answer first, and do the rest in a task of its own, or for an event that it fires."
