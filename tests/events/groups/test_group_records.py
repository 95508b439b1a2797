"""What a process knows of the groups of its listeners."""

from __future__ import annotations

import time

import pytest

from lightbus.events.groups import group_records as module
from lightbus.events.groups.group_records import GroupRecords
from lightbus.wire import fields
from lightbus.wire.envelope import Assign
from lightbus.wire.fields import FIRST_MOMENT, LAST_MOMENT

KEY = ("j", "seen", 3)


def created(seconds_ago: float) -> Assign:
    return Assign("auth", "g", 1, [], [], 1000.0 - seconds_ago, 1000.0)


def age(records: GroupRecords, group: str = "g") -> float:
    return time.time() - records.created_at("auth", group)


def test_group_is_created_at_its_first_join() -> None:
    """A second join does not change the time; for a group that nobody joined, the time is now."""
    records = GroupRecords()
    records.joins("auth", "g")
    records.learn("auth", "g", created(50.0))
    records.joins("auth", "g")
    assert age(records) == pytest.approx(50.0, abs=1.0)
    assert age(records, "other") == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize(
    ("before", "said", "expected"),
    [(50.0, 80.0, 80.0), (50.0, 48.0, 50.0), (50.0, 10.0, 10.0)],
    ids=["earlier", "about the same", "removed meanwhile"],
)
def test_publisher_says_when_a_group_was_created(before: float, said: float, expected: float) -> None:
    """The earliest time counts; a much later one means that the group was removed and created again."""
    records = GroupRecords()
    records.joins("auth", "g")
    records.learn("auth", "g", created(before))
    records.learn("auth", "g", created(said))
    assert age(records) == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize(("created", "clock"), [(FIRST_MOMENT, LAST_MOMENT), (LAST_MOMENT, FIRST_MOMENT)])
def test_a_publisher_with_an_invalid_time(created: float, clock: float) -> None:
    """Other publishers only get valid times, or none of them would accept the member."""
    records = GroupRecords()
    records.joins("auth", "g")
    records.learn("auth", "g", Assign("auth", "g", 1, [], [], created, clock))
    assert fields.moment(records.created_at("auth", "g"))
    assert -1.0 < age(records) <= module.MAX_AGE + 1.0


def test_listener_without_a_group_learns_nothing() -> None:
    """It shares events with no other listener, so there is no group with a creation time."""
    records = GroupRecords()
    records.joins("auth", "")
    records.learn("auth", "", created(50.0))
    assert age(records, "") == pytest.approx(0.0, abs=1.0)
    assert records.positions_of("auth", "") == []


def test_positions_only_grow() -> None:
    """A stream that ended at a lower position changes nothing; groups are separate."""
    records = GroupRecords()
    for handled in (5, 3):
        records.remember("auth", "g", KEY, handled)
    records.remember("auth", "other", KEY, 1)
    assert records.positions_of("auth", "g") == [["j", "seen", 3, 5]]


def test_positions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one with the oldest change is dropped first."""
    monkeypatch.setattr(module, "MAX_POSITIONS", 2)
    records = GroupRecords()
    for partition in (0, 1, 0, 2):
        records.remember("auth", "g", ("j", "seen", partition), 1)
    assert records.positions_of("auth", "g") == [["j", "seen", 0, 1], ["j", "seen", 2, 1]]


def test_another_program_with_the_same_name_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each group, however often it is seen: what each program misses, and the remedy."""
    records = GroupRecords()
    for group in ("g", "g", "other"):
        records.learn("auth", group, created(1.0))
        records.learn("auth", group, created(1.0)._replace(mixed=True))
    first, second = (record.message for record in caplog.records)
    assert first.startswith("Another program listens under the group g of auth, too: each event goes to one of the two")
    assert "another service_name or listener_name" in first
    assert "the group other of auth" in second
