"""A worker's life in this process, whoever's loop it is on; and the end of the client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Self, cast

from ..adapters.host.allocator import keep_freed_memory
from ..blocking import forbid_in_loop, is_exiting
from ..config import Feature
from ..engine.worker import Worker
from ..exceptions import LightbusServerMustStartInMainThread, UnsupportedUse
from ..importing import forbid_while_importing
from ..service.execution import close_unused, name_of
from ..service.failures import run_through
from .engine_holder import CHANGE_TIMEOUT
from .outbox import Keeping
from .signals import ENDING, signals_given_back

if TYPE_CHECKING:
    from . import BusClient

__all__ = ["Life"]

logger = logging.getLogger("lightbus.client")

BACKGROUND_START_TIMEOUT = 15.0


class Life(Keeping):
    """The part of the client that serves, and leaves."""

    def set_features(self, features: Iterable[Feature | str]) -> None:
        """Choose what a worker does: rpcs, events, tasks. Before it starts."""
        self.features = tuple(Feature(feature) for feature in features)

    async def start_worker(self) -> None:
        """Serve the APIs and listeners on the running loop, beside whatever else it does, and return."""
        if self._publishes_only:
            await asyncio.to_thread(self._stop_worker_elsewhere)
        if self._worker is not None and not self._worker.loop.is_closed():
            raise UnsupportedUse("This bus has a running worker already; stop_worker() ends it.")
        await self._start(Worker(cast("BusClient", self), self.features))

    async def _start(self, worker: Worker) -> None:
        self._worker = worker
        try:
            await worker.start()
        except BaseException:
            await self.stop_worker()
            raise

    async def stop_worker(self) -> None:
        """Finish what runs, leave the bus, and return; the client goes on."""
        worker = self._worker
        if worker is None:
            return
        try:
            await worker.stop()
        finally:
            self.worker_is_gone(worker)

    def worker_is_gone(self, worker: Worker) -> None:
        """Record that a worker has left: it was stopped, or its loop ended."""
        self.exit_code = max(self.exit_code, worker.exit_code)
        if self._worker is worker:
            self._worker = None

    async def consume_rpcs(self) -> None:
        """Serve procedures only, until told to stop (upstream's name)."""
        self.set_features([Feature.RPCS])
        await self.start_worker()
        worker = self._worker
        assert worker is not None
        await worker.stopping.wait()
        await self.stop_worker()

    def run_forever(self) -> int:
        """
        Run a worker until SIGINT, SIGTERM or `request_shutdown`; return the exit code. A second signal ends it at once.

        Raises LightbusServerMustStartInMainThread elsewhere, CannotBlockHere inside a running event loop, and
        UnsupportedUse at the top level of a bus module that is being imported.
        """
        forbid_while_importing("run_forever()")
        forbid_in_loop("run_forever()", "bus.client.start_worker()")
        if threading.current_thread() is not threading.main_thread():
            raise LightbusServerMustStartInMainThread(
                "run_forever() handles signals, which only the main thread can. "
                "Use start_in_background() for a worker beside something else."
            )
        keep_freed_memory()
        with signals_given_back(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            run_through(runner, self._run(signals=True))
        return self.exit_code

    def start_in_background(self) -> None:
        """Run a worker in a thread beside this program (a web process, say), and return when it serves."""
        forbid_in_loop("start_in_background()", "bus.client.start_worker()")
        if self._publishes_only:
            self._stop_worker_elsewhere()
        ending = self._background
        if self._worker is None and ending is not None:
            ending.join(CHANGE_TIMEOUT)  # its worker has stopped just now
        if self._worker is not None or (ending is not None and ending.is_alive()):
            raise UnsupportedUse("This bus has a running worker already.")
        self._start_thread("lightbus-worker")

    def start_publishing(self) -> None:
        """
        Publish what this process fires, in a thread, and return when it does; a worker does so anyway.

        It is called by itself half a second after an event was fired whose API is registered here, while nobody
        advertises it; and after the first use of the bus where an earlier process left something to be published.
        """
        with self._lock:
            self._publishing = None
            if self._worker is not None or self._background is not None or self._closed or is_exiting():
                return
        try:
            self._start_thread("lightbus-publisher", publishes_only=True)
        except Exception:
            logger.exception("What this process has fired is kept, but cannot be published by it")

    @property
    def _publishes_only(self) -> bool:
        return self._worker is not None and self._worker.publishes_only

    def _start_thread(self, name: str, *, publishes_only: bool = False) -> None:
        ready: Future[None] = Future()
        thread = threading.Thread(target=self._run_in_background, args=[ready, publishes_only], name=name, daemon=True)
        self._background = thread
        thread.start()
        try:
            ready.result(BACKGROUND_START_TIMEOUT)
        except BaseException:
            thread.join(CHANGE_TIMEOUT)
            raise

    def _run_in_background(self, ready: Future[None], publishes_only: bool) -> None:
        try:
            with asyncio.Runner() as runner:
                run_through(runner, self._run(ready, publishes_only=publishes_only))
        finally:
            self._background = None

    def request_shutdown(self) -> None:
        """Ask a running worker to stop; from any thread or handler."""
        if self._worker is not None:
            self._worker.request_stop()

    async def _run(
        self, ready: Future[None] | None = None, *, signals: bool = False, publishes_only: bool = False
    ) -> None:
        if publishes_only:
            start = asyncio.ensure_future(self._start(Worker(cast("BusClient", self), (), publishes_only=True)))
        else:
            start = asyncio.ensure_future(self.start_worker())
        seen = self._handle_signals(start) if signals else []
        try:
            await start
        except BaseException as error:
            if ready is not None:
                ready.set_exception(error)
            elif not seen or not start.cancelled():
                raise
            return
        if ready is not None:
            ready.set_result(None)
        worker = self._worker
        assert worker is not None
        await worker.stopping.wait()
        await self.stop_worker()
        if signals and worker.left_behind:
            logging.shutdown()
            os._exit(self.exit_code)  # threads that run a handler can neither be stopped nor waited for

    def _handle_signals(self, start: asyncio.Future[None]) -> list[int]:
        """Have SIGINT and SIGTERM end the worker, or its start; return the list of those that came."""
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def stop(number: int) -> None:
            if seen:
                logging.shutdown()
                os._exit(128 + number)
            seen.append(number)
            logger.info("Stopping, on %s; once more ends it at once", signal.Signals(number).name)
            if not start.done():
                start.cancel()  # a hook may wait for something that is not there
            elif self._worker is not None:
                self._worker.request_stop()

        for number in ENDING:
            loop.add_signal_handler(number, stop, number)
        return seen

    # The end

    def close(self) -> None:
        """Leave the bus and close everything; bounded. Idempotent. An event loop uses `close_async`."""
        forbid_in_loop("close()", "bus.client.close_async()")
        self._publish_no_more()
        self._stop_worker_elsewhere()
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        self._drop_background_tasks()
        if engine is not None:
            engine.close(at_exit=is_exiting())

    async def close_async(self) -> None:
        """Leave the bus and close everything; bounded. Idempotent."""
        self._publish_no_more()
        if self._worker is not None and self._worker.loop is asyncio.get_running_loop():
            await self.stop_worker()
        await asyncio.to_thread(self._stop_worker_elsewhere)
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        self._drop_background_tasks()
        if engine is not None:
            await engine.close_async()

    def _drop_background_tasks(self) -> None:
        """Say which background tasks were never run, and close them."""
        for coroutine in self.take_background_tasks():
            logger.warning("The background task %s was never run: no worker has started", name_of(coroutine))
            close_unused(coroutine)

    def _publish_no_more(self) -> None:
        with self._lock:
            timers = self._publishing, self._going_on
            self._publishing = self._going_on = None
        for timer in timers:
            if timer is not None:
                timer.cancel()
        self._say_what_waits()

    def _stop_worker_elsewhere(self) -> None:
        worker, thread = self._worker, self._background
        settings = self.config.worker
        patience = settings.drain_grace + settings.shutdown_timeout + 1.0
        if worker is not None and thread is None and worker.loop.is_running() and not is_exiting():
            with contextlib.suppress(TimeoutError, CancelledError):
                asyncio.run_coroutine_threadsafe(self.stop_worker(), worker.loop).result(patience)
        elif worker is not None and not worker.loop.is_closed():
            with contextlib.suppress(RuntimeError):
                worker.request_stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where the extra of that name is installed; a dedicated worker is ours to choose for."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
