"""A listener at work: its tasks take events from what waits, turn by turn, and give them to its function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context

from ..core.streams import Stream
from ..exceptions import LightbusException
from ..listener import Listener
from ..phrases import safely
from ..service.execution import begin, check_ran
from .cancel_guard import CancelGuard, current_task
from .delivery import Delivery
from .invocation import TURN, Invocation
from .listener_context import ListenerContext
from .listener_queue import ListenerQueue

__all__ = ["ListenerRunner"]

logger = logging.getLogger("lightbus.consuming")


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
        self.queue = ListenerQueue(listener)
        self.stopped_by: str | None = None
        """What it failed with, where it has stopped for that."""
        self._context = context
        self._on_stopped = on_stopped
        self._guard = CancelGuard(lambda: self.queue.is_closed)
        self._invocation = Invocation(context, listener)
        self._delivery = Delivery(context, self.queue, self._invocation, self._guard, self._give_up)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work()) for _ in range(listener.concurrency)]
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
            await asyncio.wait(late, timeout=1.0)
        self._guard.close()
        self.queue.forget_retries()
        return not late

    def _ended(self, task: asyncio.Task[None]) -> None:
        """See to it that a worker does not go on as if it listened when its listener's task failed."""
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if self._guard.is_ending else RuntimeError("its task was cancelled")
        if error is not None and not self.queue.is_closed:
            logger.critical("The listener %s cannot go on: this is a fault of ours", self.listener.name, exc_info=error)
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Handle nothing more, and leave the group, so that others are given what waits."""
        if self.stopped_by is not None:
            return
        self.queue.is_closed = True
        self.stopped_by = f"{type(error).__name__}: {safely(str, error)}"
        self._on_stopped(self, self.stopped_by)

    async def _work(self) -> None:
        queue, guard = self.queue, self._guard
        handled = 0
        while not queue.is_closed:
            found = queue.next()
            if found is None:
                await self._idle()
                continue
            stream, before, order = found
            handled += await self._turn(stream, before)
            if order is not None:
                queue.queue(order)
            if handled >= TURN:
                handled = 0
                await guard.pause(asyncio.sleep(0))

    async def _idle(self) -> None:
        """Wait until there is something to do."""
        queue = self.queue
        queue.wake.clear()
        queue.waits = self.listener.concurrency == 1
        if not queue.backlog:
            queue.is_slow = False
            self._context.caught_up()
        await self._guard.pause(queue.wake.wait())
        queue.waits = False

    async def _turn(self, stream: Stream, before: float) -> int:
        """Handle events of a stream, those before a sequence; return how many."""
        queue, delivery, invocation = self.queue, self._delivery, self._invocation
        if not queue.begin(stream):
            return 0
        turn = queue.turns.pop(stream, None) or invocation.new_turn(stream)
        cancelling = current_task().cancelling
        count, going_on = 0, True
        if (retry := queue.take_retry(stream)) is not None:
            count = 1
            going_on = await delivery.give_again(stream, retry.entry, retry.deliveries + 1, turn, retry.pause)
        while going_on and count < TURN and not queue.is_closed and (entry := stream.take(before)) is not None:
            count += 1
            queue.backlog -= 1
            queue.backlog_bytes -= len(entry[2])
            if entry[0] <= stream.doubtful and stream.is_doubtful(entry):
                # It may be the one that its last consumer was lost over: its start is on record before it happens.
                going_on = await delivery.give_again(stream, entry, 2, turn)
            elif not turn.is_plain:
                going_on = await delivery.give(stream, entry, 1, turn)
            else:  # as nearly always: Delivery.give, written out
                try:
                    message = invocation.message(stream, entry, 1, turn)
                    args, kwargs = invocation.arguments(message, turn)
                except LightbusException:
                    going_on = await delivery.give(stream, entry, 1, turn)
                    continue
                context = Context()
                try:
                    rest = begin(context, context.run(turn.function, *args, **kwargs))
                    if rest is not None:
                        check_ran(turn.function, await self._guard.apart(rest))
                except BaseException as error:
                    going_on = await delivery.raised(stream, entry, message, error)
                else:
                    queue.done(stream, entry)
                    if cancelling():
                        await self._guard.shake_off()
        queue.end(stream, turn, count, is_going_on=going_on)
        return count
