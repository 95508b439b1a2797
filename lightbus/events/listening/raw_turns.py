"""The work of a listener that takes undecoded events: none of them can fail."""

from __future__ import annotations

from ...core.streams import Stream
from .invocation import TURN
from .listener_turns import ListenerTurns
from .raw_events import RawEvents

__all__ = ["RawTurns"]


class RawTurns(ListenerTurns):
    """The work of the task of a listener that takes `RawEvents`. Only touched from the node's loop."""

    async def _turn(self, stream: Stream, before: float) -> int:
        queue, function = self._queue, self._queue.listener.function
        if not queue.begin(stream):
            return 0
        turn = queue.turns.pop(stream, None) or self._invocation.new_turn(stream)
        count = 0
        while count < TURN and not queue.is_closed:
            rows = queue.take_many(stream, before, TURN - count)
            if not rows and (entry := queue.take(stream, before)) is not None:
                rows = [entry]  # an event that another member may have begun is delivered alone
            if not rows:
                break
            function(RawEvents(turn.api, turn.event, turn.journal, turn.publisher, rows))
            queue.settle(stream, rows, len(rows), is_one_failed=False)
            stream.owner.ack(stream)
            if stream.head > stream.position:
                stream.owner.fetch_more(stream)
            count += len(rows)
        queue.end(stream, turn, count, is_going_on=True)
        return count
