"""Calls that await a reply: which reply belongs to which, whose time is up, and what fails when a peer leaves."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

__all__ = ["PendingCall", "PendingCalls"]

T = TypeVar("T")


class PendingCall(Generic[T]):
    """
    One call on its way.

    Attributes:
        peer: the instance id it was given to.
        deadline: when it is over, in seconds of the clock that `now` is read from.
        waiter: the object that gets the result; not inspected here.
        sent: whether the frame has left this process; one that has not was certainly not executed.

    """

    __slots__ = ("deadline", "peer", "sent", "waiter")

    def __init__(self, peer: str, deadline: float, waiter: T) -> None:
        self.peer = peer
        self.deadline = deadline
        self.waiter = waiter
        self.sent = True


class PendingCalls(Generic[T]):
    """
    The calls of one door. Only touched from the thread that the door belongs to.

    Call ids count upwards and are never used twice: a late reply matches no call instead of another one.
    """

    def __init__(self) -> None:
        self._calls: dict[int, PendingCall[T]] = {}
        self._next_id = 0
        self.in_flight: Counter[str] = Counter()
        """Calls that each peer has of us, for the choice among peers; zero stays until the peer is lost."""
        self.late_replies = 0
        """Replies that came after their call was given up."""

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: int) -> bool:
        return call_id in self._calls

    def of(self, peer: str) -> int:
        """Return how many calls a peer has of us. From any thread."""
        return self.in_flight.get(peer, 0)

    def add(self, peer: str, deadline: float, waiter: T) -> int:
        """Note a new call and return its id."""
        self._next_id = call_id = self._next_id + 1
        self._calls[call_id] = PendingCall(peer, deadline, waiter)
        self.in_flight[peer] = self.in_flight.get(peer, 0) + 1
        return call_id

    def mark_sent(self, call_id: int, *, sent: bool = True) -> None:
        """Note that a call has left, or still waits for its connection."""
        if (call := self._calls.get(call_id)) is not None:
            call.sent = sent

    def answered(self, call_id: int) -> PendingCall[T] | None:
        """Return the call that a reply is for, and forget it; None (and count) where the reply came too late."""
        call = self._calls.pop(call_id, None)
        if call is None:
            self.late_replies += 1
        else:
            self.in_flight[call.peer] -= 1
        return call

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
        """Return and forget the calls that a peer had of us."""
        lost = self._take([call_id for call_id, call in self._calls.items() if call.peer == peer])
        self.in_flight.pop(peer, None)
        return lost

    def all(self) -> list[tuple[int, PendingCall[T]]]:
        """Return and forget every call: the door closes."""
        return self._take(list(self._calls))

    def _take(self, call_ids: list[int]) -> list[tuple[int, PendingCall[T]]]:
        taken = [(call_id, self.forget(call_id)) for call_id in call_ids]
        return [(call_id, call) for call_id, call in taken if call is not None]
