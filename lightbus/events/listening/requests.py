"""Requests of one peer to another: repeated until they are answered, or not wanted any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ...wire.envelope import AnyMessage

__all__ = ["MAX_RETRY_AFTER", "RETRY_AFTER", "URGENT_RETRY_AFTER", "OnAnswer", "Requests", "SendRequest"]

RETRY_AFTER = 2.0
MAX_RETRY_AFTER = 8.0
"""
Seconds after which something is asked again, and again after twice the time, up to the longest. An answer that comes
late is taken all the same: over a slow way it may never come in time.
"""

URGENT_RETRY_AFTER = 0.25
"""
The same for what is short, is asked often, and has a listener stand still until it is answered: that an event is
about to be given again, or was handled. When many events are given again one by one, and one in fifty of these frames
gets lost, each of them costs 5 ms on average instead of 40 ms: that decides whether the group ever catches up.
"""

OnAnswer: TypeAlias = Callable[[AnyMessage | None], None]
"""Is given the answer to what was asked; None where there will be none."""

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
    What waits for an answer. Only touched from the loop it belongs to.

    A request may arrive twice: it is about a state, or its receiver recognises a repetition by its number.

    Args:
        numbers: a number for each request; must be shared by all that send requests to one peer.

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
            resend: asks it where there was no answer for a while.
            answer: is given the answer.
            now: in seconds, as for `tick`.
            is_urgent: whether it is asked again early.
            number: of the same request to another peer, which did not answer.

        """
        retry_after = URGENT_RETRY_AFTER if is_urgent else RETRY_AFTER
        number = number or next(self._numbers)
        self._open[number] = _OpenRequest(resend, answer, retry_after, now + retry_after)
        return number, retry_after

    def next_check(self, seconds: float) -> float | None:
        """Return in how many seconds to check urgent requests again, after so many; None: the tick is enough."""
        return 2 * seconds if self._open and 2 * seconds < RETRY_AFTER else None

    def take(self, number: int) -> OnAnswer | None:
        """Remove a request, and return its callback; None if it is not waiting."""
        request = self._open.pop(number, None)
        return None if request is None else request.answer

    def answered(self, number: int, answer: AnyMessage | None) -> bool:
        """Pass an answer on; return whether its request was waiting."""
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
        """End all waiting requests without an answer."""
        for number in list(self._open):
            self.answered(number, None)
