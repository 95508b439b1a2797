"""Which calls are started, queued or refused: the concurrency limit, the memory limit and the queue of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable

from ..config import Config
from ..core.admission import PROBE_AFTER, Admission
from ..wire.envelope import Request
from .job import Job

__all__ = ["MAX_INTERNAL", "MAX_MEMORY", "MAX_NESTED", "MAX_NESTED_IN_ALL", "CallPlaces"]

MAX_NESTED = 100
MAX_NESTED_IN_ALL = 1000
"""Nested calls (those that calls of this worker wait for) executed at once, per call and in all. They need no place."""

MAX_INTERNAL = 256
"""Calls of `internal.` APIs executed at once. They need no place, and so have a limit of their own."""

MAX_MEMORY = 128 * 1024 * 1024
"""
Bytes, approximately, that the arguments of all executed calls may take. A call that would exceed it is queued although
a place is free; a single call may always exceed it.
"""


class CallPlaces:
    """
    The executed and the queued calls. Only used from the node's loop, unless noted otherwise.

    Each executed call holds one place, except nested calls and those of `internal.` APIs.

    Args:
        config: the settings: concurrency, queue.
        loop: the node's event loop.
        counts: counts calls that expired in the queue.
        start: starts a call.
        drop: called with a queued call that will not be started, and the reason if its caller is to be informed.

    Attributes:
        running: how many calls hold a place.
        waiting: the queue; the first is started next.
        marks: the calls that have made calls themselves, by mark; those calls may call back.

    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        counts: Counter[str],
        start: Callable[[Job], None],
        drop: Callable[[Job, str], None],
    ) -> None:
        self.running = 0
        self.waiting: deque[Job] = deque()
        self.marks: dict[str, Job] = {}
        self._config = config
        self._loop = loop
        self._counts = counts
        self._start = start
        self._drop = drop
        self._waiting_bytes = 0
        self._memory = 0
        """Bytes that the arguments of all executed calls take."""
        self._nested = 0
        """How many nested calls are being executed."""
        self._internal = 0
        """How many calls of `internal.` APIs are being executed."""
        self._admission = Admission(config.worker.rpc_concurrency, config.worker.max_queue_time)
        self._probe_is_due = False

    # Admission

    def admit(self, job: Job, frame: bytes) -> str:
        """Start a call, or queue it with its frame; return the reason if it is refused, else ""."""
        if job.callee.is_internal:
            # A busy worker answers questions about itself, too: that is when they are asked.
            return self._admit_internal(job)
        if job.request.chain and (parent := self._parent_of(job.request)) is not None:
            # A call back, on behalf of a call that holds a place here already: to queue it could be a deadlock.
            return self._admit_nested(job, parent)
        admission, now = self._admission, job.arrived
        admission.arrived(now)
        if (
            self.running < admission.limit
            and not self.waiting
            and (not self._memory or self._memory + job.memory <= MAX_MEMORY)
        ):
            job.has_place = True
            self.running += 1
            self._memory += job.memory
            self._start(job)
            return ""
        return self._queue(job, frame, now)

    def _admit_internal(self, job: Job) -> str:
        if self._internal >= MAX_INTERNAL:
            return f"answers {MAX_INTERNAL} questions about itself"
        if not self._has_room(job):
            return self._no_memory()
        self._internal += 1
        self._begin(job)
        return ""

    def _admit_nested(self, job: Job, parent: Job) -> str:
        if parent.nested >= MAX_NESTED or self._nested >= MAX_NESTED_IN_ALL:
            return f"executes {self._nested} nested calls already, which its own calls wait for"
        if not self._has_room(job):
            return self._no_memory()
        parent.nested += 1
        self._nested += 1
        job.parent = parent
        self._begin(job)
        return ""

    def _parent_of(self, request: Request) -> Job | None:
        """Return the call of this process that waits for the request; None if none does, whatever the chain says."""
        for mark in reversed(request.chain):
            if (job := self.marks.get(mark)) is not None:
                return job
        return None

    def _queue(self, job: Job, frame: bytes, now: float) -> str:
        self._probe_later()
        if (reason := self._reason_not_to_queue(job, len(frame), now)) is not None:
            return reason
        job.keep_encoded(frame)
        self.waiting.append(job)
        self._waiting_bytes += len(frame)
        self._admission.queue_is(len(self.waiting), now)
        return ""

    def _reason_not_to_queue(self, job: Job, size: int, now: float) -> str | None:
        limit, ahead = self._config.worker, len(self.waiting)
        if ahead >= limit.rpc_queue:
            return f"runs {self.running} calls and has {ahead} waiting"
        if ahead and self._waiting_bytes + size > self._config.network.max_message_size:
            return f"has {ahead} calls of {self._waiting_bytes} bytes waiting"
        if not self._admission.may_wait(ahead, job.deadline.at - now, now):
            return f"runs {self.running} calls and has {ahead} waiting, and cannot begin a further one soon enough"
        return None

    def _has_room(self, job: Job) -> bool:
        """Return whether the arguments of a call fit in the memory limit."""
        return not self._memory or self._memory + job.memory <= MAX_MEMORY

    def _no_memory(self) -> str:
        return f"executes calls whose arguments take {self._memory >> 20} MiB of memory"

    def _begin(self, job: Job) -> None:
        self._memory += job.memory
        self._start(job)

    # Begin of a handler

    def handler_began(self, job: Job) -> None:
        """Record that the handler of a call begins, and how long after the start of the call."""
        now = time.monotonic()
        delay, job.began = now - job.began, now
        self._note_delay(delay, now)

    def handler_began_in_thread(self, job: Job) -> None:
        """Record the same, from the thread that runs the handler."""
        now = time.monotonic()
        delay, job.began = now - job.began, now
        if self._admission.tolerates(delay) and not self.waiting:
            return  # the usual case: to wake the loop would cost more than the rest of the call
        with contextlib.suppress(RuntimeError):  # the loop is closed: no further call will be started
            self._loop.call_soon_threadsafe(self._note_delay, delay, now)

    def _note_delay(self, delay: float, now: float) -> None:
        if self._admission.began(delay, self.running, now) and self.waiting:
            self._start_next()

    # End

    def release(self, job: Job) -> None:
        """Release the place and the memory of a call that has ended, and start queued calls."""
        self._memory -= job.memory
        if job.mark:
            self.marks.pop(job.mark, None)
        if job.has_place:
            self.running -= 1
            now = job.ended if job.ended is not None and job.loop_woken_at is None else time.monotonic()
            if job.loop_woken_at is not None:
                self._admission.began(now - job.loop_woken_at, self.running + 1, now)  # the loop is queued too
            if self._admission.finished((job.ended or now) - job.began, now, job.cpu_seconds):
                self._admission.look_at_cpu(time.process_time(), now)
        elif job.parent is not None:
            job.parent.nested -= 1
            self._nested -= 1
        elif job.callee.is_internal:
            self._internal -= 1
        if self.waiting:
            self._start_next()

    def remove_queued(self, job: Job) -> bool:
        """Remove a call from the queue because its caller gave up; return whether it was queued."""
        if job not in self.waiting:
            return False
        self.waiting.remove(job)
        self._left_queue(job)
        return True

    def _start_next(self) -> None:
        now = time.monotonic()
        while self.waiting and self.running < self._admission.limit and self._has_room(self.waiting[0]):
            job = self.waiting.popleft()
            self._left_queue(job)
            if job.cancelled or job.deadline.passed():
                self._counts["expired"] += 1
                self._drop(job, "")
            elif self._admission.has_waited_too_long(now - job.arrived, now):
                self._drop(job, f"did not begin this call within {now - job.arrived:.2f} s")
            else:
                job.has_place, job.began = True, now
                self.running += 1
                job.decode_again()
                self._begin(job)

    def _left_queue(self, job: Job) -> None:
        self._waiting_bytes -= len(job.queued_frame)
        self._admission.queue_is(len(self.waiting), time.monotonic())

    def _probe_later(self) -> None:
        """Schedule a probe, so that queued calls are started also if no call begins or ends for a while."""
        if not self._probe_is_due:
            self._probe_is_due = True
            self._loop.call_later(PROBE_AFTER, self._probe)

    def _probe(self) -> None:
        self._probe_is_due = False
        may_start = self._admission.probe(time.monotonic())
        if self.waiting:
            if may_start:
                self._start_next()
            self._probe_later()
