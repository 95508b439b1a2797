"""Requests that are repeated until they are answered, or not wanted any more."""

from __future__ import annotations

import itertools
from itertools import pairwise

from lightbus.events.listening.requests import MAX_RETRY_AFTER, RETRY_AFTER, URGENT_RETRY_AFTER, Requests
from lightbus.wire.envelope import Acked, AnyMessage


class Asker:
    """A caller with one request."""

    def __init__(self) -> None:
        self.requests = Requests(itertools.count(1))
        self.said: list[int] = []
        self.answers: list[AnyMessage | None] = []
        self.is_wanted = True

    def ask(self, now: float = 0.0, *, is_urgent: bool = False) -> float:
        """Ask."""
        number, seconds = self.requests.add(self._say, self.answers.append, now, is_urgent=is_urgent)
        self._say(number)
        return seconds

    def _say(self, number: int) -> bool:
        if self.is_wanted:
            self.said.append(number)
        return self.is_wanted


def test_an_answer_reaches_its_caller() -> None:
    """Once: a second answer is ignored."""
    asker = Asker()
    asker.ask()
    assert asker.requests.answered(1, Acked([]))
    assert not asker.requests.answered(1, Acked([]))
    assert (asker.said, asker.answers, len(asker.requests)) == ([1], [Acked([])], 0)


def test_a_request_is_repeated_under_its_number() -> None:
    """After a pause that doubles up to the longest; a late answer to the first attempt is used."""
    asker = Asker()
    asker.ask()
    times = []
    for tenths in range(1, 400):
        before = len(asker.said)
        asker.requests.tick(tenths / 10)
        if len(asker.said) > before:
            times.append(tenths / 10)
    assert times[:3] == [RETRY_AFTER, 3 * RETRY_AFTER, 7 * RETRY_AFTER]
    assert {round(later - earlier, 1) for earlier, later in pairwise(times[2:])} == {MAX_RETRY_AFTER}
    assert set(asker.said) == {1}
    assert asker.requests.answered(1, Acked([]))


def test_an_urgent_request_is_repeated_early() -> None:
    """And reports when to check: a tick every second or so would be too late."""
    asker = Asker()
    looks, now = [asker.ask(is_urgent=True)], 0.0
    while (seconds := looks[-1]) is not None:
        now += seconds
        asker.requests.tick(now)
        looks.append(asker.requests.next_check(seconds))
    assert looks == [URGENT_RETRY_AFTER, 2 * URGENT_RETRY_AFTER, 4 * URGENT_RETRY_AFTER, None]
    assert asker.said == [1] * 4
    asker.requests.answered(1, None)
    assert asker.requests.next_check(URGENT_RETRY_AFTER) is None


def test_an_unwanted_request_is_cancelled() -> None:
    """At the time of its repetition."""
    asker = Asker()
    asker.ask()
    asker.is_wanted = False
    asker.requests.tick(RETRY_AFTER / 2)
    assert asker.answers == []
    asker.requests.tick(RETRY_AFTER)
    assert (asker.said, asker.answers, len(asker.requests)) == ([1], [None], 0)


def test_closing_notifies_all_callers() -> None:
    """Each is told that there will be no answer; its callback may ask again."""
    asker = Asker()
    asker.ask()
    asker.ask()
    asker.requests.close()
    assert asker.answers == [None, None]
