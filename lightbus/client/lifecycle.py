"""Running a worker in this process, on the user's loop or in its own thread, and closing the client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeAlias

from ..adapters.host.allocator import keep_freed_memory
from ..blocking import forbid_in_loop, is_exiting
from ..config import Config, Feature
from ..exceptions import BusAlreadyClosed, LightbusServerMustStartInMainThread, LightbusTimeout, UnsupportedUse
from ..importing import forbid_while_importing
from ..interrupts import interruptible
from ..service.api import Api, ApiRegistry
from ..service.failures import run_through
from .engine_holder import EngineHolder
from .outbox import UnpublishedEvents
from .schedules import Schedules
from .signals import ENDING, restoring_signals
from .worker_holder import CHANGE_TIMEOUT, WorkerHolder
from .worker_view import WorkerView

if TYPE_CHECKING:
    from ..engine.worker import Worker

__all__ = ["Lifecycle"]

logger = logging.getLogger("lightbus.client")

BACKGROUND_START_TIMEOUT = 15.0

StartWorker: TypeAlias = Callable[[], Coroutine[Any, Any, "Worker"]]


class Lifecycle:
    """
    The part of a client that runs workers, and closes the client.

    Args:
        config: the settings.
        view: the client as a worker sees it.
        engines, workers, unpublished, schedules: the parts to stop when the client closes.

    Attributes:
        thread: the thread that runs a worker in the background, or None.
        plugins: the plugins of the client.

    """

    def __init__(
        self,
        config: Config,
        view: WorkerView,
        engines: EngineHolder,
        workers: WorkerHolder,
        unpublished: UnpublishedEvents,
        schedules: Schedules,
    ) -> None:
        self.thread: threading.Thread | None = None
        self._ready: Future[None] = Future()
        """Done when the worker in `thread` serves; to cancel it cancels the worker's start."""
        self._config = config
        self._view = view
        self._engines = engines
        self._workers = workers
        self._unpublished = unpublished
        self._schedules = schedules
        self.plugins = view.plugins

    async def start_worker(self) -> Worker:
        """Start serving the APIs and listeners on the running loop, beside its other tasks, and return the worker."""
        if self._workers.publishes_only:
            await asyncio.to_thread(self._stop_worker_elsewhere)
        return await self._workers.start(lambda: self._new_worker(self._workers.features))

    async def consume_rpcs(self, apis: Sequence[Api] | None = None) -> None:
        """
        Serve procedures only, until stopped.

        Raises UnsupportedUse if `apis` are not exactly those registered: a worker serves all of them.
        """
        if apis is not None:
            _check_all_served(apis, self._view.api_registry)
        features, self._workers.features = self._workers.features, (Feature.RPCS,)
        try:
            worker = await self.start_worker()
            try:
                await worker.stopping.wait()
            finally:  # also if this is cancelled
                await self._workers.stop()
        finally:
            self._workers.features = features

    async def stop_worker(self) -> None:
        """Stop the worker, whichever loop it runs on, and return when it has left the bus."""
        worker = self._workers.worker
        if worker is not None and worker.loop is asyncio.get_running_loop():
            await self._workers.stop()
        else:
            await asyncio.to_thread(self._stop_worker_elsewhere)

    def run_forever(self) -> int:
        """Run a worker until a signal or `request_shutdown` ends it; return the exit code."""
        forbid_while_importing("run_forever()")
        forbid_in_loop("run_forever()", "bus.client.start_worker()")
        if threading.current_thread() is not threading.main_thread():
            raise LightbusServerMustStartInMainThread(
                "run_forever() handles signals, which only the main thread can. "
                "Use start_in_background() for a worker beside something else."
            )
        keep_freed_memory()
        with restoring_signals(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            run_through(runner, self._run(self.start_worker))
        return self._workers.exit_code

    def start_in_background(self) -> None:
        """Run a worker in a thread beside this program (a web process, for example), and return when it serves."""
        forbid_in_loop("start_in_background()", "bus.client.start_worker()")
        if self._workers.publishes_only:
            self._stop_worker_elsewhere()
        ending = self.thread
        if self._workers.worker is None and ending is not None:
            ending.join(CHANGE_TIMEOUT)  # its worker has just stopped
        if self._workers.worker is not None or (ending is not None and ending.is_alive()):
            raise UnsupportedUse("This bus has a running worker already.")
        self._start_thread("lightbus-worker", self.start_worker, stops_late_start=True)

    def start_publishing(self) -> None:
        """
        Start a thread that publishes the events of this process, and return when it does. No-op beside a worker.

        Called automatically half a second after an event of an API registered here was fired while no peer advertised
        the API, and half a second after the first use of the bus if an earlier process left unpublished events.
        """
        with self._engines.lock:
            if self._workers.worker is not None or self.thread is not None or self._engines.is_closed or is_exiting():
                return
        try:
            self._start_thread("lightbus-publisher", self._start_publisher, stops_late_start=False)
        except UnsupportedUse as error:
            logger.debug("A worker was started just now, and publishes the events of this process: %s", error)
        except Exception:
            logger.exception(
                "The events that this process has fired are in the journal, but it cannot publish them; "
                "another process of its service will"
            )

    async def _start_publisher(self) -> Worker:
        return await self._workers.start(lambda: self._new_worker((), publishes_only=True))

    def _new_worker(self, features: tuple[Feature, ...], *, publishes_only: bool = False) -> Worker:
        from ..engine.worker import Worker  # imported here: what only a worker needs is a third of the package

        return Worker(self._view, features, publishes_only=publishes_only)

    def _start_thread(self, name: str, start_worker: StartWorker, *, stops_late_start: bool) -> None:
        ready: Future[None] = Future()
        thread = threading.Thread(target=self._run_in_background, args=[start_worker, ready], name=name, daemon=True)
        self.thread, self._ready = thread, ready
        try:
            interruptible(thread.start)
            error = interruptible(ready.exception, BACKGROUND_START_TIMEOUT)
        except CancelledError:
            raise BusAlreadyClosed("The bus was closed before its worker had started.") from None
        except TimeoutError:
            if not stops_late_start or ready.cancel():
                raise LightbusTimeout(
                    f"The worker did not start within {BACKGROUND_START_TIMEOUT:g} s"
                    f"{', and was stopped' if stops_late_start else ''}. Does a start hook wait for something?"
                ) from None
            error = ready.exception()  # it started, or failed, just now
        except BaseException:
            if not ready.cancel():
                self._workers.request_stop()  # it started just now
            if not thread.is_alive():
                self.thread = None  # it may not have been started
            raise
        if error is not None:
            thread.join(CHANGE_TIMEOUT)
            raise error

    def _run_in_background(self, start_worker: StartWorker, ready: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                run_through(runner, self._run(start_worker, ready))
        finally:
            if self.thread is threading.current_thread():
                self.thread = None

    async def _run(self, start_worker: StartWorker, ready: Future[None] | None = None) -> None:
        """Run a worker on this loop until it is stopped; without `ready`, signals stop it, too."""
        start = asyncio.ensure_future(start_worker())
        seen = self._handle_signals(start) if ready is None else []
        if ready is not None:
            _cancel_with(ready, start)
        try:
            worker = await start
        except BaseException as error:
            if ready is None and not (seen and start.cancelled()):
                raise
            if ready is not None and ready.set_running_or_notify_cancel():
                ready.set_exception(error)
            return
        if ready is not None and ready.set_running_or_notify_cancel():
            ready.set_result(None)
        elif ready is not None:
            worker.request_stop()
        await worker.stopping.wait()
        await self._workers.stop()
        if ready is None and worker.left_behind:
            logging.shutdown()
            os._exit(self._workers.exit_code)  # threads that still run a handler cannot be stopped

    def _handle_signals(self, start: asyncio.Future[Worker]) -> list[int]:
        """Make SIGINT and SIGTERM stop the worker, or its start; return the list that received signals are added to."""
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def stop(number: int) -> None:
            if seen:
                logging.shutdown()
                os._exit(128 + number)
            seen.append(number)
            logger.info("Stopping, on %s; a second signal ends it at once", signal.Signals(number).name)
            if not start.done():
                start.cancel()  # a start hook may wait for something unavailable
            else:
                self._workers.request_stop()

        for number in ENDING:
            loop.add_signal_handler(number, stop, number)
        return seen

    # Closing

    def abandon(self) -> threading.Thread | None:
        """Forget, in a forked child, the parent's thread, and return its object, which must stay untouched."""
        thread, self.thread = self.thread, None
        self._ready = Future()  # to cancel the parent's would wake the parent's loop
        return thread

    def close(self) -> None:
        """Leave the bus and close everything, in bounded time."""
        self._unpublished.stop()
        self._stop_worker_elsewhere()
        engine = self._engines.close()
        self._schedules.drop_background_tasks()
        if engine is not None:
            engine.close(at_exit=is_exiting())

    async def close_async(self) -> None:
        """Leave the bus and close everything, in bounded time, without blocking the event loop."""
        self._unpublished.stop()
        await self.stop_worker()
        engine = self._engines.close()
        self._schedules.drop_background_tasks()
        if engine is not None:
            await engine.close_async()

    def _stop_worker_elsewhere(self) -> None:
        self._ready.cancel()
        worker, thread = self._workers.worker, self.thread
        settings = self._config.worker
        patience = settings.drain_grace + settings.shutdown_timeout + 1.0
        if worker is not None and thread is None and worker.loop.is_running() and not is_exiting():
            with contextlib.suppress(TimeoutError, CancelledError):
                stop = asyncio.run_coroutine_threadsafe(self._workers.stop(), worker.loop)
                interruptible(stop.result, patience)
        elif worker is not None and not worker.loop.is_closed():
            with contextlib.suppress(RuntimeError):
                worker.request_stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)


def _cancel_with(ready: Future[None], start: asyncio.Future[Worker]) -> None:
    """Cancel `start`, which runs on the running loop, when `ready` is cancelled."""
    loop = asyncio.get_running_loop()

    def cancel(done: Future[None]) -> None:
        if done.cancelled():
            with contextlib.suppress(RuntimeError):  # the loop was closed just now
                loop.call_soon_threadsafe(start.cancel)

    ready.add_done_callback(cancel)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory if uvloop is installed: only for a dedicated worker, whose loop Lightbus may choose."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _check_all_served(apis: Sequence[Api], registry: ApiRegistry) -> None:
    given, registered = {api.meta.name for api in apis}, {api.meta.name for api in registry.public()}
    if given != registered:
        raise UnsupportedUse(
            f"consume_rpcs(apis=...) was given {_listed(given)}, and a worker serves all that is registered: "
            f"{_listed(registered)}. Register those that it is to serve, and leave `apis` out."
        )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
