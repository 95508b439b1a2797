"""The worker of a client in this process: started, notified of changes, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from ..config import Feature
from ..exceptions import UnsupportedUse
from ..interrupts import interruptible
from ..service.failures import report

if TYPE_CHECKING:
    from ..engine.worker import Worker

__all__ = ["CHANGE_TIMEOUT", "WorkerHolder"]

logger = logging.getLogger("lightbus.client")

CHANGE_TIMEOUT = 2.0
"""Seconds for which a thread waits for a running worker to apply a change."""


class WorkerHolder:
    """
    One worker at a time. It is started and stopped on its own loop; any thread may read it and notify it.

    Attributes:
        features: the features of the next worker.
        exit_code: the highest exit code of the workers that have ended.
        worker: the worker that is starting, running or stopping, or None.

    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        self.exit_code = 0
        self.worker: Worker | None = None

    @property
    def publishes_only(self) -> bool:
        """Whether the worker only publishes the events of this process."""
        return self.worker is not None and self.worker.publishes_only

    async def start(self, make: Callable[[], Worker]) -> Worker:
        """Make a worker, start it on the running loop and return it. Raises UnsupportedUse if another worker runs."""
        if self.worker is not None and not self.worker.loop.is_closed():
            raise UnsupportedUse("This bus has a running worker already; stop_worker() ends it.")
        worker = self.worker = make()
        try:
            await worker.start()
        except BaseException:
            await self.stop()
            raise
        return worker

    async def stop(self) -> None:
        """Stop the worker, on its loop: it finishes the handlers that run, and leaves the bus."""
        if self.worker is not None:
            await self.worker.stop()

    def worker_left(self, worker: Worker) -> None:
        """Record that a worker has ended: it was stopped, or its loop ended."""
        self.exit_code = max(self.exit_code, worker.exit_code)
        if self.worker is worker:
            self.worker = None

    def abandon(self) -> Worker | None:
        """Forget, in a forked child, the parent's worker, and return it: it must stay untouched."""
        worker, self.worker = self.worker, None
        return worker

    def request_stop(self) -> None:
        """Ask the worker to stop; from any thread or handler."""
        if self.worker is not None:
            with contextlib.suppress(RuntimeError):  # its loop was closed
                self.worker.request_stop()

    def change(self, make: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
        """
        Make a running worker apply a change; in a plain thread, return when it has.

        Raises in a plain thread what the change raises; if nobody waits for it (any more), that is logged. A worker
        that ends meanwhile needs no change: the next one begins with it.
        """
        worker = self.worker
        if worker is None or worker.loop.is_closed():
            return
        coroutine = make(worker)
        try:
            change = asyncio.run_coroutine_threadsafe(coroutine, worker.loop)
        except RuntimeError:  # the loop was closed just now
            coroutine.close()
            return
        if asyncio._get_running_loop() is None:
            try:
                error = interruptible(change.exception, CHANGE_TIMEOUT)
            except TimeoutError:
                pass  # the worker goes on applying it
            except CancelledError:
                return  # its loop has ended
            else:
                if error is not None:
                    raise error
                return
        change.add_done_callback(_report_failure)


def _report_failure(change: Future[None]) -> None:
    if not change.cancelled() and (error := change.exception()) is not None:
        text = "The running worker goes on without what was just declared: its listener, API or schedule has no effect"
        report(logger, logging.ERROR, error, text)
