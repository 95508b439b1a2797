"""The threads in which `def` functions of the user's run.

Unlike those of `concurrent.futures` they are daemons: the interpreter waits for those at its end, for as long as a
handler takes, and a program that is done could not leave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["HandlerThreads"]

P = ParamSpec("P")
T = TypeVar("T")


class HandlerThreads(Executor):
    """
    Threads, made when there is something to do for them and kept until `shutdown`. Any thread may use it.

    Args:
        limit: how many there are at most; what goes beyond waits.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        """Jobs that wait or run: if there is a thread for each, none waits for a thread that waits for it."""
        self._threads = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the threads. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("The bus was closed; nothing is executed any more.")
            self._unfinished += 1
            is_short = self._threads < min(self._unfinished, self._limit)
            self._threads += is_short
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        if is_short:
            threading.Thread(target=self._work, name="lightbus-handler", daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Drop what has not begun, and have the threads end when they are done. Waits for nobody, whatever is asked."""
        with self._lock:
            self._closed = True
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(*job)
            del job  # a thread that waits must not keep a caller's arguments alive

    def _run(self, future: Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._finished()
            return
        try:
            result = function()
        except BaseException as error:
            self._finished()
            future.set_exception(error)
        else:
            self._finished()  # first: whoever waits for the result may submit the next job at once
            future.set_result(result)

    def _finished(self) -> None:
        with self._lock:
            self._unfinished -= 1
