"""Requests to a peer, repeated until they are answered, or not wanted any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ...wire.envelope import AnyMessage

__all__ = ["MAX_RETRY_AFTER", "RETRY_AFTER", "URGENT_RETRY_AFTER", "OnAnswer", "Requests", "SendRequest"]

RETRY_AFTER = 2.0
MAX_RETRY_AFTER = 8.0
"""
Seconds after which a request is repeated; doubled each time, up to the second value. A late answer is accepted, too:
on a slow network there may never be one in time.
"""

URGENT_RETRY_AFTER = 0.25
"""
The same for short, frequent requests that block a listener until they are answered: an event is about to be delivered
again, or was handled. When many events are delivered again one by one, and one in fifty of these frames is lost, each
event costs 5 ms on average instead of 40 ms: that decides whether the group ever catches up.
"""

OnAnswer: TypeAlias = Callable[[AnyMessage | None], None]
"""Called with the answer to a request; with None if there will be none."""

SendRequest: TypeAlias = Callable[[int], bool]
"""Sends a request, for the first time or again, under its number; returns False if it is not wanted any more."""


@dataclass(slots=True)
class _OpenRequest:
    send: SendRequest
    answer: OnAnswer
    retry_after: float
    due: float


class Requests:
    """
    The unanswered requests. Only touched from one loop.

    A request may arrive twice: it is idempotent, or its receiver recognises a repetition by its number.

    Args:
        numbers: a number for each request; must be shared by all senders of requests to one peer.

    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._open: dict[int, _OpenRequest] = {}
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self, resend: SendRequest, answer: OnAnswer, now: float, *, is_urgent: bool = False, number: int = 0
    ) -> tuple[int, float]:
        """
        Record a request; `answer` is called once. Return its number, and in how many seconds to check again.

        Args:
            resend: repeats the request if there was no answer for a while.
            answer: called with the answer.
            now: the time in seconds, as for `tick`.
            is_urgent: whether the request is repeated early.
            number: the number of the same request to another peer, which did not answer.

        """
        retry_after = URGENT_RETRY_AFTER if is_urgent else RETRY_AFTER
        number = number or next(self._numbers)
        self._open[number] = _OpenRequest(resend, answer, retry_after, now + retry_after)
        return number, retry_after

    def next_check(self, seconds: float) -> float | None:
        """Return in how many seconds to check urgent requests again, after this last pause; None: tick is enough."""
        return 2 * seconds if self._open and 2 * seconds < RETRY_AFTER else None

    def take(self, number: int) -> OnAnswer | None:
        """Remove a request, and return its callback; None if it is not waiting."""
        request = self._open.pop(number, None)
        return None if request is None else request.answer

    def answered(self, number: int, answer: AnyMessage | None) -> bool:
        """Pass an answer on; return whether its request was open."""
        give = self.take(number)
        if give is not None:
            give(answer)
        return give is not None

    def tick(self, now: float) -> None:
        """Repeat requests that should have been answered by now, and end those that are not wanted any more."""
        for number, request in list(self._open.items()):
            if now < request.due or number not in self._open:
                continue
            if request.send(number):
                request.retry_after = min(2 * request.retry_after, MAX_RETRY_AFTER)
                request.due = now + request.retry_after
            else:
                self.answered(number, None)

    def close(self) -> None:
        """End all open requests without an answer."""
        for number in list(self._open):
            self.answered(number, None)
