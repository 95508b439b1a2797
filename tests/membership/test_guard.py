"""The last guard: messages that could not be handled are counted, and logged at growing intervals."""

from __future__ import annotations

import logging

import pytest

from lightbus.exceptions import ProtocolError
from lightbus.membership.guard import Guard
from lightbus.wire.envelope import Cancel


def test_errors_are_logged_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    """The first error with its traceback, then the tenth, the hundredth and so on; each kind separately."""
    guard = Guard(logging.getLogger("lightbus.test"))
    for _ in range(1000):
        guard.failed("the peer", Cancel(), KeyError("no"))
    guard.failed("the peer", "a subscription", KeyError("no"))
    assert [record.args[0] for record in caplog.records] == [1, 10, 100, 1000, 1]  # type: ignore[index]
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, False, True]
    assert "1 failures so far to handle a Cancel message of the peer, which is ignored: KeyError: 'no'" in caplog.text
    assert guard.total == 1001


def test_foreign_messages_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An error that repeats a long message is shortened."""
    Guard(logging.getLogger("lightbus.test")).unreadable("the peer", ProtocolError("x" * 10_000))
    [record] = caplog.records
    assert len(record.getMessage()) < 700


def test_kinds_of_errors_are_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of kinds may come from foreign peers."""
    monkeypatch.setattr(Guard, "MAX_KINDS", 3)
    guard = Guard(logging.getLogger("lightbus.test"))
    for number in range(50):
        guard.failed("the peer", f"the matter {number}", KeyError())
    assert guard.total == 50
    assert len(caplog.records) == 5
