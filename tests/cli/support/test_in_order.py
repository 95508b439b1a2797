"""Events of several journals sorted by time."""

from __future__ import annotations

import pytest

from lightbus.cli.support import in_order
from lightbus.cli.support.in_order import QUIET, InOrder
from lightbus.message import EventMessage

BEGUN = 1_000.0


class Follower:
    """What is shown of events that journals deliver, by a clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shown: list[tuple[str, float]] = []
        self.order = InOrder(self._show, begun=BEGUN, clock=lambda: self.now)
        self._numbers = 0
        self.order.look()  # from now on they deliver

    def _show(self, message: EventMessage) -> None:
        self.shown.append((message.native_id.partition("-")[0], message.published_at))

    def deliver(self, journal: str, *times: float, api: str = "a") -> None:
        for at in times:
            self._numbers += 1
            self.order.add(
                EventMessage(
                    api_name=api, event_name="b", native_id=f"{journal}-{self._numbers}", published_at=at, publisher="p"
                )
            )

    def passed(self, seconds: float) -> list[tuple[str, float]]:
        self.now += seconds
        self.order.look()
        return self.shown


def test_stored_events_are_merged() -> None:
    """Stored events that arrive journal by journal are shown in order of time, then new ones as they arrive."""
    following = Follower()
    following.deliver("one", 1, 3, 5)
    following.deliver("other", 2, 4, 6)
    assert following.passed(0) == []
    assert following.passed(QUIET) == [("one", 1), ("other", 2), ("one", 3), ("other", 4), ("one", 5), ("other", 6)]
    assert not following.order.holds
    following.deliver("one", 1_001)
    assert following.shown[-1] == ("one", 1_001)


def test_who_still_delivers_is_waited_for() -> None:
    """Nothing is shown that a journal may have something earlier than; one that is silent is not waited for."""
    following = Follower()
    following.deliver("slow", 1)
    following.deliver("quick", 2, 10, 20)
    following.passed(QUIET - 0.1)
    following.deliver("slow", 5)
    assert following.passed(0.1) == [("slow", 1), ("quick", 2), ("slow", 5)]
    following.deliver("slow", 15)
    assert following.passed(0)[3:] == [("quick", 10), ("slow", 15)]
    assert following.order.holds
    assert following.passed(QUIET)[5:] == [("quick", 20)]


def test_a_busy_bus_is_not_held_back_for_ever() -> None:
    """Once all arriving events are newer than the start, nothing is held back any more."""
    following = Follower()
    following.now = QUIET
    following.deliver("one", 1, BEGUN + 1)
    following.deliver("other", 2, BEGUN + 2)
    assert following.passed(0) == [("one", 1), ("other", 2), ("one", BEGUN + 1), ("other", BEGUN + 2)]
    assert not following.order.holds


def test_a_journal_is_never_reordered() -> None:
    """If a clock was set back, the journal's order is kept."""
    following = Follower()
    following.deliver("one", 7, 3)
    following.deliver("other", 5)
    assert following.passed(QUIET) == [("other", 5), ("one", 7), ("one", 3)]


def test_the_apis_of_a_journal_are_merged() -> None:
    """A journal delivers the events of its APIs apart from each other."""
    following = Follower()
    following.deliver("one", 1, 3)
    following.deliver("one", 2, 4, api="b")
    assert following.passed(QUIET) == [("one", 1), ("one", 2), ("one", 3), ("one", 4)]


def test_held_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If too many are held back, the earliest is shown."""
    monkeypatch.setattr(in_order, "HELD", 2)
    following = Follower()
    following.deliver("one", 4, 5)
    following.deliver("other", 1, 2)
    assert following.shown == [("other", 1), ("other", 2)]


def test_it_begins_with_the_first_look() -> None:
    """Journals have time to deliver from the first `look` on, however late the subscriptions are confirmed."""
    following = Follower()
    following.order = order = InOrder(following._show, begun=BEGUN, clock=lambda: following.now)
    following.now = 10 * QUIET
    order.look()
    assert order.holds
    following.deliver("one", 2)
    following.deliver("other", 1)
    assert following.passed(QUIET) == [("other", 1), ("one", 2)]
