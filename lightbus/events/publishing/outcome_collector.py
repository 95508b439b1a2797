"""Collects the outcomes of events that were fired together in one future."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["OutcomeCollector"]

T = TypeVar("T")


class OutcomeCollector(Generic[T]):
    """
    Called with the outcome of each event, in order.

    Attributes:
        future: done with all outcomes, or with the first error.

    """

    def __init__(self, count: int) -> None:
        self.future: Future[list[T]] = Future()
        self._left = count
        self._outcomes: list[T] = []

    def __call__(self, outcome: T | Exception) -> None:
        self._left -= 1
        if isinstance(outcome, Exception):
            if not self.future.done():
                self.future.set_exception(outcome)
            return
        self._outcomes.append(outcome)
        if not self._left and not self.future.done():
            self.future.set_result(self._outcomes)
