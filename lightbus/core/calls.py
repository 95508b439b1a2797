"""Calls that await a reply: matching replies, expired deadlines, and calls that fail when a peer leaves."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

__all__ = ["PendingCall", "PendingCalls"]

T = TypeVar("T")


class PendingCall(Generic[T]):
    """
    One call in progress.

    Attributes:
        peer: the instance id that it was sent to.
        deadline: when it expires, by the clock of `now`.
        waiter: the object that gets the result; not inspected here.
        sent: whether the frame has left this process; if not, the call was certainly not executed.

    """

    __slots__ = ("deadline", "peer", "sent", "waiter")

    def __init__(self, peer: str, deadline: float, waiter: T) -> None:
        self.peer = peer
        self.deadline = deadline
        self.waiter = waiter
        self.sent = True


class PendingCalls(Generic[T]):
    """
    The calls of one channel. Only touched from the thread that the channel belongs to.

    Call ids count upwards and are never used twice, so that a late reply never matches another call.
    """

    def __init__(self) -> None:
        self._calls: dict[int, PendingCall[T]] = {}
        self._next_id = 0
        self.in_flight: Counter[str] = Counter()
        """Our open calls at each peer, for the choice among peers; a zero stays until the peer is lost."""
        self.late_replies = 0
        """Replies that arrived after their call was given up, or from another peer than the one it was sent to."""

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: int) -> bool:
        return call_id in self._calls

    def of(self, peer: str) -> int:
        """Return the number of our open calls at a peer. Callable from any thread."""
        return self.in_flight.get(peer, 0)

    def add(self, peer: str, deadline: float, waiter: T) -> int:
        """Add a call and return its id."""
        self._next_id = call_id = self._next_id + 1
        self._calls[call_id] = PendingCall(peer, deadline, waiter)
        self.in_flight[peer] = self.in_flight.get(peer, 0) + 1
        return call_id

    def mark_sent(self, call_id: int, *, sent: bool = True) -> None:
        """Record that a call was sent, or still waits for its connection."""
        if (call := self._calls.get(call_id)) is not None:
            call.sent = sent

    def answered(self, call_id: int, peer: str) -> PendingCall[T] | None:
        """
        Return the call that a peer's reply is for, and forget it.

        Return None, and count, if the reply came too late, or is for a call at another peer: ids are easily guessed.
        """
        call = self._calls.pop(call_id, None)
        if call is not None and call.peer == peer:
            self.in_flight[peer] -= 1
            return call
        if call is not None:
            self._calls[call_id] = call
        self.late_replies += 1
        return None

    def forget(self, call_id: int) -> PendingCall[T] | None:
        """Stop waiting for a call, known or not."""
        call = self._calls.pop(call_id, None)
        if call is not None:
            self.in_flight[call.peer] -= 1
        return call

    def expired(self, now: float) -> list[tuple[int, PendingCall[T]]]:
        """Return and forget the calls whose deadline has passed."""
        late = [call_id for call_id, call in self._calls.items() if call.deadline <= now]
        return self._take(late)

    def peer_lost(self, peer: str) -> list[tuple[int, PendingCall[T]]]:
        """Return and forget our open calls at a peer."""
        lost = self._take([call_id for call_id, call in self._calls.items() if call.peer == peer])
        self.in_flight.pop(peer, None)
        return lost

    def all(self) -> list[tuple[int, PendingCall[T]]]:
        """Return and forget all calls: the channel closes."""
        return self._take(list(self._calls))

    def _take(self, call_ids: list[int]) -> list[tuple[int, PendingCall[T]]]:
        taken = [(call_id, self.forget(call_id)) for call_id in call_ids]
        return [(call_id, call) for call_id, call in taken if call is not None]
