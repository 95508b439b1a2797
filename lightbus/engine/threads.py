"""The threads in which `def` functions of the user's run.

Unlike those of `concurrent.futures` they are daemons: the interpreter waits for those at its end, for as long as a
handler takes, and a program that is done could not leave.
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
"""Seconds for which a thread is kept that has nothing to do. Each takes some memory; to start one takes 50 us."""

ThreadWork: TypeAlias = Callable[["_Thread"], None]
"""What a thread is given: a function of the thread."""


class HandlerThreads(HandlerExecutor):
    """
    Threads that are started when there is work for them. Any thread may use it.

    A thread that has finished takes the oldest waiting work before it waits itself: waking another thread, which then
    waits for the interpreter, costs more than most handlers do. So only one is woken at a time, and it wakes the next
    one while there is more work: a handler that does not end, or waits for another one, delays no other work.

    The thread that was busy last is woken first: its caches are warm, and threads that only a burst needed stay idle,
    and end.

    Args:
        limit: how many threads there are at most; further work waits.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # over all of these
        self._idle: list[_Thread] = []
        self._waiting: deque[tuple[ThreadWork, Future[Any] | None]] = deque()
        """If there is a thread for each, none waits for a thread that waits for it."""
        self._threads = 0
        self._looking = 0
        """How many threads will look for what waits: they were woken or started, or are done with what they had."""
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
                self._expect_look(thread)
                future.set_exception(error)
            else:
                self._expect_look(thread)  # first: code that waits for the result may submit the next job at once
                future.set_result(result)

        self._submit(work, future)
        return future

    def run(self, function: Callable[[T], None], argument: T, /) -> None:
        """Have a thread call a function that raises nothing, and whose end is not awaited. Raises as `submit` does."""

        def work(thread: _Thread) -> None:
            try:
                function(argument)
            except BaseException:
                logger.exception("The work of a thread for %s has failed: %s", argument, INTERNAL_ERROR)

        self._submit(work)

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Drop what has not begun, and have the threads end when they are done. Waits for nobody, whatever is asked."""
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
                except RuntimeError:  # the system has no room for one more
                    if not self._threads:
                        self._waiting.pop()
                        raise

    def _wake_one(self) -> None:
        """Wake a thread, or start one, if there may be a further one. Under the lock."""
        if self._idle:
            self._wake(self._idle.pop())
        elif self._threads < self._limit:
            thread = _Thread()
            threading.Thread(target=self._live, args=(thread,), name="lightbus-handler", daemon=True).start()
            self._threads += 1
            self._looking += 1

    def _wake(self, thread: _Thread) -> None:
        thread.will_look = True
        self._looking += 1
        thread.wake.release()

    def _expect_look(self, thread: _Thread) -> None:
        with self._lock:
            thread.will_look = True
            self._looking += 1

    def _live(self, thread: _Thread) -> None:
        while (work := self._next(thread)) is not None:
            work(thread)
            del work  # a thread that waits must not keep a caller's arguments alive

    def _next(self, thread: _Thread) -> ThreadWork | None:
        """Return what a thread is to do next, when there is something; None where it is to end."""
        while True:
            with self._lock:
                if thread.will_look:
                    thread.will_look = False
                    self._looking -= 1
                if self._waiting:
                    work, _ = self._waiting.popleft()
                    if self._waiting and not self._looking:
                        with contextlib.suppress(RuntimeError):  # the system has no room for one more
                            self._wake_one()
                    return work
                if self._closed:
                    return None
                self._idle.append(thread)
            if not thread.wake.acquire(timeout=KEPT):
                if self._may_end(thread):
                    return None
                thread.wake.acquire()

    def _may_end(self, thread: _Thread) -> bool:
        """Return whether no thread was woken while it stopped waiting; from then on it is not counted."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._threads -= 1  # not later: a job that arrives now would wait for this thread
            return True


class _Thread:
    """One thread: what it waits for, and whether it counts as one that will look for something to do."""

    __slots__ = ("wake", "will_look")

    def __init__(self) -> None:
        self.will_look = True
        self.wake = threading.Lock()
        self.wake.acquire()
