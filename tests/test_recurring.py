"""Recurring failures are logged once, when they change, and after pauses that double."""

from __future__ import annotations

import logging

import pytest

from lightbus.recurring import CHANGE_PAUSE, FIRST_PAUSE, LONGEST_PAUSE, MOST_KEYS, MOST_LINES, PERIOD, RecurringLog


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock, caplog: pytest.LogCaptureFixture) -> RecurringLog:
    caplog.set_level(logging.INFO, "test.recurring")
    return RecurringLog(logging.getLogger("test.recurring"), clock=clock)


def test_same_message_is_logged_once(log: RecurringLog, caplog: pytest.LogCaptureFixture) -> None:
    """The same text about one thing is logged once; another thing is logged separately."""
    assert log.log("disk", logging.ERROR, "%s is full", "/data")
    assert not log.log("disk", logging.ERROR, "%s is full", "/data")
    assert log.log("network", logging.WARNING, "it is down")
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("ERROR", "/data is full"),
        ("WARNING", "it is down"),
    ]


def test_a_day_of_a_failure(log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A failure every three seconds for a day is logged about a dozen times, with the number of suppressed messages."""
    for _ in range(86_400 // 3):
        log.log("disk", logging.ERROR, "it is full")
        clock.now += 3.0
    assert len(caplog.records) < 15
    assert caplog.records[1].message == f"it is full ({FIRST_PAUSE / 3 - 1:.0f} times more since this was last logged)"


def test_two_alternating_texts_are_logged_once_each(
    log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged when it is new; their alternation is not logged, and a third text is."""
    for number in range(1200):
        log.log("disk", logging.ERROR, "it is full" if number % 2 else "it cannot be opened")
        clock.now += 3.0
    assert [each.message for each in caplog.records[:2]] == ["it cannot be opened", "it is full"]
    assert len(caplog.records) < 10
    assert log.log("disk", logging.ERROR, "it was removed")


def test_pauses_end_growing(log: RecurringLog, clock: Clock) -> None:
    """It is never forgotten altogether."""
    for _ in range(30):
        assert log.log("disk", logging.ERROR, "it is full")
        clock.now += LONGEST_PAUSE


def test_a_change_is_logged(log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Other words are news; words that differ each time are not."""
    log.log("disk", logging.ERROR, "it is full")
    clock.now += CHANGE_PAUSE
    assert log.log("disk", logging.ERROR, "it is gone")
    assert not any(log.log("disk", logging.ERROR, "attempt %d", number) for number in range(100))
    assert len(caplog.records) == 2


def test_changing_numbers_do_not_count_as_new(
    log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without `changes`, messages that differ each time count as the same."""
    for seconds in range(10):
        log.log("loop", logging.WARNING, "it was blocked for %d s", seconds, changes=False)
        clock.now += 2 * CHANGE_PAUSE
    assert caplog.records[0].message == "it was blocked for 0 s"
    assert len(caplog.records) == 2


def test_the_traceback_is_logged_once(log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It is long, and the same each time."""
    for _ in range(3):
        log.log("care", logging.ERROR, "it failed", exc_info=ValueError())
        clock.now += FIRST_PAUSE / 2
    assert [each.exc_info is not None for each in caplog.records] == [True, False]


def test_recovery_resets_the_pause(log: RecurringLog) -> None:
    """After a recovery the next failure is logged at once."""
    assert not log.recovered("disk")
    log.log("disk", logging.ERROR, "it is full")
    assert log.recovered("disk")
    assert log.log("disk", logging.ERROR, "it is full")


def test_memory_of_failures_is_bounded(log: RecurringLog, clock: Clock) -> None:
    """However many things fail."""
    for number in range(MOST_KEYS + 10):
        log.log(number, logging.ERROR, "it failed")
        clock.now += 1.0
    assert len(log._logged) == MOST_KEYS


def test_lines_per_minute_are_limited(log: RecurringLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Ever new things cannot fill the log: a number per minute is logged, and the rest is counted."""
    for number in range(3 * MOST_LINES):
        log.log(number, logging.INFO, "the member %d is gone", number)
    told = [each.message for each in caplog.records]
    assert told[-2:] == [
        f"the member {MOST_LINES - 2} is gone",
        f"the member {MOST_LINES - 1} is gone (further ones are held back for 60 s)",
    ]
    clock.now += PERIOD
    assert log.log("new", logging.INFO, "the member x is gone")
    assert f"({2 * MOST_LINES} other lines were held back: there were too many)" in caplog.text
    assert log.log("newer", logging.INFO, "the member y is gone")
    assert caplog.records[-1].message == "the member y is gone"
