"""The threads that run the user's `def` functions.

Unlike those of `concurrent.futures` they are daemon threads: at exit the interpreter waits for the former, so that a
finished program could not exit while a handler runs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeAlias, TypeVar

from ..phrases import INTERNAL_ERROR
from ..rpc.runner import HandlerExecutor

__all__ = ["HandlerThreads"]

logger = logging.getLogger("lightbus.serving")

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 10.0
"""Seconds after which an idle thread ends. Each takes some memory; to start one takes 50 us."""

ThreadWork: TypeAlias = Callable[["_Thread"], None]
"""A job for a thread, called with the thread."""


class HandlerThreads(HandlerExecutor):
    """
    Threads that are started on demand. Thread-safe.

    A thread that has finished a job takes the oldest queued one: waking another thread, which must then wait for the
    interpreter lock, costs more than most handlers. So only one thread is woken at a time, and it wakes the next while
    there are more jobs: a handler that does not end, or waits for another one, delays no other job.

    The thread that was busy last is woken first: its caches are warm, and threads that were needed only in a burst stay
    idle, and end.

    Args:
        limit: the largest number of threads; further jobs are queued.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # guards all fields below
        self._idle: list[_Thread] = []
        self._waiting: deque[tuple[ThreadWork, Future[Any] | None]] = deque()
        """The queued jobs. Each gets a thread, up to the limit, so that jobs that wait for others do not deadlock."""
        self._threads = 0
        self._looking = 0
        """How many threads are about to take a queued job: just woken, just started, or done with their last job."""
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the threads. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()

        def work(thread: _Thread) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._count_as_looking(thread)
                future.set_exception(error)
            else:
                self._count_as_looking(
                    thread
                )  # before the result: code that waits for it may submit the next job at once
                future.set_result(result)

        self._submit(work, future)
        return future

    def run(self, function: Callable[[T], None], argument: T, /) -> None:
        """Call a function in a thread. It must raise nothing; its end cannot be awaited. Raises as `submit` does."""

        def work(thread: _Thread) -> None:
            try:
                function(argument)
            except BaseException:
                logger.exception("A thread failed while it executed %s: %s", argument, INTERNAL_ERROR)

        self._submit(work)

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Drop queued jobs, and end each thread after its current job. Never waits, whatever `wait` says."""
        with self._lock:
            self._closed = True
            dropped, self._waiting = self._waiting, deque()
            idle, self._idle = self._idle, []
            for thread in idle:
                self._wake(thread)
        for _, future in dropped:
            if future is not None:
                future.cancel()

    def _submit(self, work: ThreadWork, future: Future[Any] | None = None) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("The bus was closed; nothing is executed any more.")
            self._waiting.append((work, future))
            if not self._looking:
                try:
                    self._wake_one()
                except RuntimeError:  # the system cannot start a thread
                    if not self._threads:
                        self._waiting.pop()
                        raise

    def _wake_one(self) -> None:
        """Wake an idle thread, or start one if the limit allows it. Call it with the lock held."""
        if self._idle:
            self._wake(self._idle.pop())
        elif self._threads < self._limit:
            thread = _Thread()
            threading.Thread(target=self._run_jobs, args=(thread,), name="lightbus-handler", daemon=True).start()
            self._threads += 1
            self._looking += 1

    def _wake(self, thread: _Thread) -> None:
        thread.is_looking = True
        self._looking += 1
        thread.wake.release()

    def _count_as_looking(self, thread: _Thread) -> None:
        with self._lock:
            thread.is_looking = True
            self._looking += 1

    def _run_jobs(self, thread: _Thread) -> None:
        while (work := self._next(thread)) is not None:
            work(thread)
            del work  # an idle thread must not keep a caller's arguments alive

    def _next(self, thread: _Thread) -> ThreadWork | None:
        """Wait for the next job of a thread, and return it; None if the thread must end."""
        while True:
            with self._lock:
                if thread.is_looking:
                    thread.is_looking = False
                    self._looking -= 1
                if self._waiting:
                    work, _ = self._waiting.popleft()
                    if self._waiting and not self._looking:
                        with contextlib.suppress(RuntimeError):  # the system cannot start a thread
                            self._wake_one()
                    return work
                if self._closed:
                    return None
                self._idle.append(thread)
            if not thread.wake.acquire(timeout=KEPT):
                if self._end_if_idle(thread):
                    return None
                thread.wake.acquire()

    def _end_if_idle(self, thread: _Thread) -> bool:
        """Return whether an idle thread may end: it was not woken meanwhile. If so, it is no longer counted."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._threads -= 1  # not later: a job that arrives now would wait for this thread
            return True


class _Thread:
    """One thread: the lock that it waits for when idle, and whether it is counted in `_looking`."""

    __slots__ = ("is_looking", "wake")

    def __init__(self) -> None:
        self.is_looking = True
        self.wake = threading.Lock()
        self.wake.acquire()
