"""Runs a listener: its queue and its tasks, from its start until it stops or has failed for good."""

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
    Runs a listener: one event of a stream at a time, in order. Only touched from the node's loop.

    Args:
        context: the process that the listener runs in.
        listener: the listener to run.
        on_stopped: called with the error when the listener has failed for good and must leave its group.

    """

    def __init__(
        self, context: ListenerContext, listener: Listener, on_stopped: Callable[[ListenerRunner, str], None]
    ) -> None:
        self.listener = listener
        queue = BatchQueue(listener) if listener.batch else ListenerQueue(listener)
        self.queue: ListenerQueue = queue
        self.delays = Delays()
        self.stopped_by: str | None = None
        """The error that stopped it; None otherwise."""
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
        """The number of handled events."""
        return self.queue.handled_by.total()

    async def stop(self, seconds: float | None) -> bool:
        """Finish the events in progress, within so long (None: no limit), and stop; return whether all finished."""
        self.queue.close()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            text = "The listener %s did not end within %s s: it is abandoned, and its event goes to its group again"
            logger.warning(text, self.listener, seconds)
            await asyncio.wait(late, timeout=1.0)
        self._guard.close()
        self.queue.forget_retries()
        return not late

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the listener if one of its tasks failed, so that it does not stay a member that handles nothing."""
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if self._guard.is_ending else RuntimeError("its task was cancelled")
        if error is not None and not self.queue.is_closed:
            logger.critical("The listener %s cannot continue: %s", self.listener.name, INTERNAL_ERROR, exc_info=error)
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Stop handling, and leave the group, so that other members get the waiting events."""
        if self.stopped_by is not None:
            return
        self.queue.is_closed = True
        self.stopped_by = f"{type(error).__name__}: {safely(str, error)}"
        self._on_stopped(self, self.stopped_by)
