"""The work of a listener's tasks: each takes events from the queue, stream by stream, and calls the function."""

from __future__ import annotations

import asyncio
import time

from ...core.streams import Stream, entry_of
from .cancel_guard import CancelGuard, current_task
from .delivery import Delivery
from .invocation import LONG, TURN, Invocation
from .listener_context import ListenerContext
from .listener_queue import ListenerQueue

__all__ = ["ListenerTurns"]


class ListenerTurns:
    """
    The work of the tasks of one listener: one event of a stream at a time, in order. Only touched from the node's loop.

    Args:
        context: the process that the listener runs in.
        queue: the listener's queue.
        invocation: calls the function.
        delivery: delivers events that need more than a call.
        guard: protects against handlers that cancel their task.

    """

    def __init__(
        self,
        context: ListenerContext,
        queue: ListenerQueue,
        invocation: Invocation,
        delivery: Delivery,
        guard: CancelGuard,
    ) -> None:
        self._context = context
        self._queue = queue
        self._invocation = invocation
        self._delivery = delivery
        self._guard = guard

    async def work(self) -> None:
        """Handle arriving events until the listener stops."""
        queue, guard = self._queue, self._guard
        handled, until = 0, 0.0
        while not queue.is_closed:
            found = queue.next()
            if found is None:
                await self._idle()
                handled = 0
                continue
            if not handled:
                until = time.monotonic() + LONG
            stream, before, order = found
            handled += await self._turn(stream, before)
            if order is not None:
                queue.queue(order)
            if handled >= TURN or time.monotonic() >= until:
                handled = 0
                await guard.pause(asyncio.sleep(0))

    async def _idle(self) -> None:
        """Wait until there is something to do."""
        queue = self._queue
        queue.wake.clear()
        queue.waits = self._queue.listener.concurrency == 1
        if not queue.backlog:
            queue.is_slow = False
            self._context.caught_up()
        await self._guard.pause(queue.wake.wait())
        queue.waits = False

    async def _turn(self, stream: Stream, before: float) -> int:
        """Handle events of a stream, up to a sequence; return how many."""
        queue, delivery, invocation = self._queue, self._delivery, self._invocation
        if not queue.begin(stream):
            return 0
        turn = queue.turns.pop(stream, None) or invocation.new_turn(stream)
        cancelling = current_task().cancelling
        count, going_on = 0, True
        if (retry := queue.take_retry(stream)) is not None:
            count = 1
            going_on = await delivery.redeliver(stream, retry.entry, retry.deliveries + 1, turn, retry.pause)
        while going_on and count < TURN and not queue.is_closed:
            if turn.is_plain and (entries := queue.take_many(stream, before, TURN - count)):
                handled, failed = invocation.run_through(entries, turn, cancelling)
                queue.settle(stream, entries, handled, is_one_failed=failed is not None)
                if handled:
                    stream.owner.ack(stream)
                    if stream.head > stream.position:  # fetch more before the queued events are handled
                        stream.owner.fetch_more(stream)
                count += handled
                if failed is not None:
                    count += 1
                    going_on = await delivery.raised(stream, entry_of(entries[handled]), *failed)
                elif cancelling():
                    await self._guard.absorb_cancellation()
                elif handled < len(entries) and turn.is_plain:  # it took long
                    await self._guard.pause(asyncio.sleep(0))
            elif (entry := queue.take(stream, before)) is not None:
                count += 1
                if entry[0] <= stream.possibly_delivered and stream.is_possibly_delivered(entry):
                    # It may have ended the process of its last consumer: the delivery is recorded before it begins.
                    going_on = await delivery.redeliver(stream, entry, 2, turn)
                else:
                    going_on = await delivery.deliver(stream, entry, 1, turn)
            else:
                break
        queue.end(stream, turn, count, is_going_on=going_on)
        return count
