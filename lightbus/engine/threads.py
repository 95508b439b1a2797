"""The threads in which `def` functions of the user's run.

Unlike those of `concurrent.futures` they are daemons: the interpreter waits for those at its end, for as long as a
handler takes, and a program that is done could not leave.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeAlias, TypeVar

from ..rpc.runner import HandlerExecutor

__all__ = ["HandlerThreads"]

logger = logging.getLogger("lightbus.serving")

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 10.0
"""Seconds for which a thread is kept that has nothing to do. Each takes some memory; to start one takes 50 us."""

Work: TypeAlias = Callable[["_Thread"], None]
"""What a thread is given: a function of the thread, which says itself when that is free for more."""


class HandlerThreads(HandlerExecutor):
    """
    Threads, made when there is something to do for them. Any thread may use it.

    The one that was busy last is taken first: it is the warmest, and those that a burst needed have nothing to do
    afterwards, and end.

    Args:
        limit: how many there are at most; what goes beyond waits.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # over all of these
        self._idle: list[_Thread] = []
        self._waiting: deque[tuple[Work, Future[Any] | None]] = deque()
        """If there is a thread for each, none waits for a thread that waits for it."""
        self._threads = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the threads. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()

        def work(thread: _Thread) -> None:
            if not future.set_running_or_notify_cancel():
                self._is_free(thread)
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._is_free(thread)
                future.set_exception(error)
            else:
                self._is_free(thread)  # first: whoever waits for the result may submit the next job at once
                future.set_result(result)

        self._give(work, future)
        return future

    def run(self, function: Callable[[T], None], argument: T, /) -> None:
        """Have a thread call a function that raises nothing, and for which nobody waits. Raises as `submit` does."""

        def work(thread: _Thread) -> None:
            try:
                function(argument)
            except BaseException:
                logger.exception("What a thread did for %s has failed: this is a fault of ours", argument)
            self._is_free(thread)

        self._give(work)

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Drop what has not begun, and have the threads end when they are done. Waits for nobody, whatever is asked."""
        with self._lock:
            self._closed = True
            dropped, self._waiting = self._waiting, deque()
            idle, self._idle = self._idle, []
        for _, future in dropped:
            if future is not None:
                future.cancel()
        for thread in idle:
            thread.wake.release()

    def _give(self, work: Work, future: Future[Any] | None = None) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("The bus was closed; nothing is executed any more.")
            if self._idle:
                thread = self._idle.pop()
                thread.work = work
                thread.wake.release()
                return
            if self._threads >= self._limit:
                self._waiting.append((work, future))
                return
            self._threads += 1
        try:
            threading.Thread(target=self._live, args=(_Thread(work),), name="lightbus-handler", daemon=True).start()
        except RuntimeError:  # the system has no room for one more
            self._give_to_others(work, future)

    def _give_to_others(self, work: Work, future: Future[Any] | None) -> None:
        """Have one of the threads that there are do it, now or later. Raises again where there is none."""
        with self._lock:
            self._threads -= 1
            if not self._threads:
                raise
            if self._idle:
                thread = self._idle.pop()
                thread.work = work
                thread.wake.release()
            else:
                self._waiting.append((work, future))

    def _is_free(self, thread: _Thread) -> None:
        """Have a thread go on with what waits, or wait for what comes."""
        with self._lock:
            if self._waiting:
                thread.work, _ = self._waiting.popleft()
                thread.wake.release()
            elif self._closed:
                thread.wake.release()
            else:
                self._idle.append(thread)

    def _live(self, thread: _Thread) -> None:
        while thread.work is not None:
            work, thread.work = thread.work, None
            work(thread)
            del work  # a thread that waits must not keep a caller's arguments alive
            if not thread.wake.acquire(timeout=KEPT) and not self._may_end(thread):
                thread.wake.acquire()

    def _may_end(self, thread: _Thread) -> bool:
        """Return whether nobody has given a thread anything while it ceased to wait; from then on it counts no more."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._threads -= 1  # not later: who comes now would wait for it
            return True


class _Thread:
    """One thread: what it has to do, and what it waits for."""

    __slots__ = ("wake", "work")

    def __init__(self, work: Work) -> None:
        self.work: Work | None = work
        self.wake = threading.Lock()
        self.wake.acquire()
