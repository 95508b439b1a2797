"""The way of a request: decode -> admit -> validate -> handler -> reply.

Whatever it is, it is answered; nothing a peer sends stops a worker.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from ..exceptions import LightbusException, PeerBusy, PeerRefused, PeerUnreachable
from ..membership.context import MAX_CHAIN, Identity
from ..service.api import ApiRegistry
from ..service.hooks import HookRegistry
from ..wire import envelope
from ..wire.envelope import Error, Request
from .call_log import CallLog
from .job import Job
from .places import Places
from .replies import Replies
from .runner import Runner

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["DOUBT", "Server"]

logger = logging.getLogger("lightbus.serving")

DOUBT = 0.5
"""Seconds after a standstill in which requests may still be old: the network's buffers hold some, too."""


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
        self.log = CallLog(service_of)
        self._apis = apis
        self._executor = executor
        self._reply_to = reply
        self._serves_calls = serves_calls
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[tuple[bytes, int], Job] = {}
        """Those that are executed, and those that wait."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._doubtful_until = 0.0
        self._places = Places(config, self._loop, self.counts, self._start, self._drop)
        self._runner = Runner(
            config=config,
            hooks=hooks,
            client=client,
            loop=self._loop,
            executor=executor,
            places=self._places,
            replies=Replies(config, self.counts, max_message_size_of),
            finished=self._finished,
        )

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
        places = self._places
        job = Job(routing_id, call_id, request, procedure, memory or len(frame), places.marks)
        if self.log.watch.is_on:
            job.arguments = self.log.watch.arguments_of(request)
        if reason := places.take(job, frame):
            self._refuse_busy(job, reason)
        else:
            self._jobs[routing_id, call_id] = job
            self._idle.clear()

    def cancel(self, routing_id: bytes, call_id: int) -> None:
        """Record that nobody waits for a request any more. A `def` handler that runs cannot be stopped."""
        job = self._jobs.get((routing_id, call_id))
        if job is None:
            return
        job.cancelled = True
        self.counts["cancelled"] += 1
        if self._places.give_up(job):
            self._forget(job)
        elif job.execution is not None:  # a task that has not begun would end without a word to us
            job.interrupt()

    @property
    def running(self) -> int:
        """How many calls hold a place."""
        return self._places.running

    @property
    def executing(self) -> int:
        """How many calls are executed now, nested ones included; those of `internal.` APIs are left out."""
        return sum(not job.is_internal for job in self._jobs.values()) - self.queued

    @property
    def queued(self) -> int:
        """How many calls wait for their turn, likewise."""
        return sum(not job.is_internal for job in self._places.waiting)

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
                job.interrupt()
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
            return Error(PeerBusy.code, f"{me} is shutting down.", False, {"elsewhere": True, "leaving": True})
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

    def _refuse_busy(self, job: Job, reason: str) -> None:
        self.counts["refused_busy"] += 1
        text = f"{self.identity} {reason}. Start a further worker, or raise worker.rpc_concurrency."
        error = Error(PeerBusy.code, text, False, {"elsewhere": True})
        if self.log.watch.is_on and job.arguments is None:
            job.wait_no_more()
        self._refuse(job.routing_id, job.call_id, job.request, error, job.arguments)

    def _refuse(
        self, routing_id: bytes, call_id: int, request: Request, error: Error, arguments: bytes | None = None
    ) -> None:
        frame = envelope.encode(error, call_id)
        self._reply_to(routing_id, frame)
        watch = self.log.watch
        if watch.is_on and (arguments := arguments or watch.arguments_of(request)) is not None:
            self.log.show(request, time.monotonic(), arguments, frame)

    # From the beginning to the end

    def _start(self, job: Job) -> None:
        job.began = time.monotonic()
        if job.procedure.is_async:
            job.task = self._loop.create_task(self._runner.run(job))
        else:
            self._executor.submit(contextvars.Context().run, self._runner.run_blocking, job)

    def _drop(self, job: Job, reason: str) -> None:
        """Do not begin with a call that waited; its caller is told the reason, if there is one."""
        self._forget(job)
        if reason:
            self._refuse_busy(job, reason)

    def _forget(self, job: Job) -> None:
        self._jobs.pop((job.routing_id, job.call_id), None)
        if not self._jobs:
            self._idle.set()

    def _finished(self, job: Job, frame: bytes, ended: float | None) -> None:
        job.served.end()
        self.counts["served"] += 1
        try:
            self._answer(job, frame)
        except Exception:
            logger.exception("The end of %s could not be noted: this is a fault of ours", job.name)
        self._forget(job)
        self._places.leave(job, ended)

    def _answer(self, job: Job, frame: bytes) -> None:
        if frame and not job.cancelled:
            self._reply_to(job.routing_id, frame)
            self.log.note_usage(job)
        if job.arguments is not None:
            self.log.show(job.request, job.arrived, job.arguments, b"" if job.cancelled else frame)


def _too_deep(request: Request) -> str:
    depth, instances = len(request.chain), len({mark[:16] for mark in request.chain})
    text = f"{request.api}.{request.procedure} is {depth} calls deep, each of which waits for the next; no more may. "
    if instances < depth:
        text += "Some processes are in it more than once: is it a circle? If not, "
    return text + "have a handler answer first, and do the rest in a task of its own, or for an event that it fires."
