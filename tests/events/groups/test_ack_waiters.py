"""Waiters for acknowledgements: called back in order, once, dropped at their deadlines, and limited."""

from __future__ import annotations

import pytest

from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.groups import ack_waiters
from lightbus.events.groups.ack_waiters import AckWaiters, OnHandled
from lightbus.exceptions import LightbusTimeout

SEEN, GONE, OTHER = Topic("auth", "seen", 3), Topic("auth", "gone", 3), Topic("mail", "seen", 3)


class Bus:
    """Waiters, and the positions that all groups have handled."""

    def __init__(self) -> None:
        self.handled: dict[Topic, int | None] = {SEEN: 0, GONE: 0, OTHER: 0}
        self.asked: list[Topic] = []
        self.told: list[object] = []
        self.waiters = AckWaiters(self._handled_by_all)

    def _handled_by_all(self, topic: Topic) -> int | None:
        self.asked.append(topic)
        return self.handled[topic]

    def wait(self, topic: Topic, sequence: int, name: object, until: float = 10.0) -> bool:
        """Wait for an event; `told` gets the name, or the error, when the wait ends."""
        return self.waiters.add(topic, sequence, until, self._teller(name))

    def _teller(self, name: object) -> OnHandled:
        return lambda error: self.told.append(name if error is None else error)

    def acknowledge(self, topic: Topic, sequence: int | None) -> list[object]:
        """Let all groups reach a sequence; return the waiters called so far."""
        self.handled[topic] = sequence
        self.waiters.acknowledged(topic)
        return self.told


@pytest.fixture
def bus() -> Bus:
    """Return a bus on which nothing is handled."""
    return Bus()


def test_called_back_in_order(bus: Bus) -> None:
    """In any order of their registration, each is called once, in the order of its event."""
    for sequence in (5, 3, 4, 3, 9):
        assert bus.wait(SEEN, sequence, sequence)
    assert bus.acknowledge(SEEN, 2) == []
    assert bus.acknowledge(SEEN, 4) == [3, 3, 4]
    assert bus.acknowledge(SEEN, 8) == [3, 3, 4, 5]
    assert len(bus.waiters) == 1
    assert bus.acknowledge(SEEN, 9) == [3, 3, 4, 5, 9]
    assert len(bus.waiters) == 0


def test_called_at_once_if_no_group_must_handle_the_event(bus: Bus) -> None:
    """Or if all have handled it; and when the last group goes."""
    bus.handled[SEEN] = 7
    assert bus.wait(SEEN, 7, "handled")
    bus.handled[GONE] = None
    assert bus.wait(GONE, 1, "nobody")
    assert bus.told == ["handled", "nobody"]
    assert bus.wait(SEEN, 8, "later")
    assert bus.wait(OTHER, 8, "other")
    bus.handled.update({SEEN: None, OTHER: None})
    bus.waiters.group_removed("auth")
    assert bus.told == ["handled", "nobody", "later"]


def test_waiters_are_dropped_at_their_deadline(bus: Bus) -> None:
    """They have given up themselves: they are not called, and nothing of them is kept."""
    for number in range(100):
        bus.wait(SEEN, number + 1, number, until=1.0)
    bus.wait(SEEN, 50, "longer", until=2.0)
    bus.waiters.expire(0.5)
    assert len(bus.waiters) == 101
    bus.waiters.expire(1.0)
    assert len(bus.waiters) == 1
    assert bus.acknowledge(SEEN, 100) == ["longer"]
    bus.wait(SEEN, 101, "last", until=2.0)
    bus.waiters.expire(2.0)
    assert len(bus.waiters) == 0


def test_cost_is_independent_of_the_number_of_waiters(bus: Bus) -> None:
    """One check when it is added, one when its topic is acknowledged, none for other topics."""
    for sequence in range(1, 1001):
        bus.wait(SEEN, sequence, sequence)
    assert bus.asked == [SEEN] * 1000
    bus.asked.clear()
    bus.acknowledge(SEEN, 1)
    bus.acknowledge(GONE, 1)
    assert bus.asked == [SEEN]
    assert bus.told == [1]


def test_waiters_are_limited(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, a waiter is told at once that its event is not watched; with room again, the next may wait."""
    monkeypatch.setattr(ack_waiters, "MAX_WAITERS", 2)
    assert bus.wait(SEEN, 1, "first")
    assert bus.wait(GONE, 1, "second")
    assert not bus.wait(SEEN, 2, "third")
    [error] = bus.told
    assert isinstance(error, LightbusTimeout)
    assert str(error).startswith("The event is on disk, and is delivered to its groups; but 2 callers wait already")
    bus.acknowledge(GONE, 1)
    assert bus.wait(SEEN, 2, "third")
