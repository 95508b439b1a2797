"""A listener at work: its queue, and its tasks, from its start until it stops or has failed for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...listener import Listener
from ...phrases import INTERNAL_ERROR, safely
from .batch_queue import BatchQueue
from .batch_turns import BatchTurns
from .cancel_guard import CancelGuard
from .delays import Delays
from .delivery import Delivery
from .invocation import Invocation
from .listener_context import ListenerContext
from .listener_queue import ListenerQueue
from .listener_turns import ListenerTurns
from .raw_turns import RawTurns

__all__ = ["ListenerRunner"]

logger = logging.getLogger("lightbus.listeners")


class ListenerRunner:
    """
    A listener at work: one event of a stream at a time, in order. Only touched from the node's loop.

    Args:
        context: of the process.
        listener: whose events are handled.
        on_stopped: called when it has failed for good and is to leave its group, and with what it failed.

    """

    def __init__(
        self, context: ListenerContext, listener: Listener, on_stopped: Callable[[ListenerRunner, str], None]
    ) -> None:
        self.listener = listener
        queue = BatchQueue(listener) if listener.batch else ListenerQueue(listener)
        self.queue: ListenerQueue = queue
        self.delays = Delays()
        self.stopped_by: str | None = None
        """What it failed with, where it has stopped for that."""
        self._on_stopped = on_stopped
        self._guard = CancelGuard(lambda: queue.is_closed)
        invocation = Invocation(context, listener, self.delays)
        delivery = Delivery(context, queue, invocation, self._guard, self._give_up)
        turns = (
            BatchTurns(context, queue, invocation, delivery, self._guard)
            if isinstance(queue, BatchQueue)
            else (RawTurns if listener.takes_raw else ListenerTurns)(context, queue, invocation, delivery, self._guard)
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(turns.work()) for _ in range(listener.concurrency)]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    @property
    def handled(self) -> int:
        """How many events were handled."""
        return self.queue.handled_by.total()

    async def stop(self, seconds: float | None) -> bool:
        """Finish the events being handled, at most so long if at all, and stop; return whether all were finished."""
        self.queue.close()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            text = "The listener %s did not end within %s s: it is left, and its event is given to its group again"
            logger.warning(text, self.listener, seconds)
            await asyncio.wait(late, timeout=1.0)
        self._guard.close()
        self.queue.forget_retries()
        return not late

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the listener's part of the worker when its task failed, instead of staying a silent member."""
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if self._guard.is_ending else RuntimeError("its task was cancelled")
        if error is not None and not self.queue.is_closed:
            logger.critical("The listener %s cannot go on: %s", self.listener.name, INTERNAL_ERROR, exc_info=error)
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Handle nothing more, and leave the group, so that others are given what waits."""
        if self.stopped_by is not None:
            return
        self.queue.is_closed = True
        self.stopped_by = f"{type(error).__name__}: {safely(str, error)}"
        self._on_stopped(self, self.stopped_by)
