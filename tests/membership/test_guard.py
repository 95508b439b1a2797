"""The last guard: what could not be handled is counted, and said ever more seldom."""

from __future__ import annotations

import logging

import pytest

from lightbus.exceptions import ProtocolError
from lightbus.membership.guard import Guard
from lightbus.wire.envelope import Cancel


def test_it_is_logged_in_ever_longer_intervals(caplog: pytest.LogCaptureFixture) -> None:
    """The first time with its traceback, then the tenth, the hundredth and so on; each kind of trouble on its own."""
    guard = Guard(logging.getLogger("lightbus.test"))
    for _ in range(1000):
        guard.failed("the peer", Cancel(), KeyError("no"))
    guard.failed("the peer", "a subscription", KeyError("no"))
    assert [record.args[0] for record in caplog.records] == [1, 10, 100, 1000, 1]  # type: ignore[index]
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, False, True]
    assert "1 failures so far to handle a Cancel message of the peer, which is ignored: KeyError: 'no'" in caplog.text
    assert guard.total == 1001


def test_what_strangers_sent_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An error that repeats a long message is cut."""
    Guard(logging.getLogger("lightbus.test")).unreadable("the peer", ProtocolError("x" * 10_000))
    [record] = caplog.records
    assert len(record.getMessage()) < 700


def test_kinds_of_trouble_are_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told apart has names that may come from outside."""
    monkeypatch.setattr(Guard, "MAX_KINDS", 3)
    guard = Guard(logging.getLogger("lightbus.test"))
    for number in range(50):
        guard.failed("the peer", f"the matter {number}", KeyError())
    assert guard.total == 50
    assert len(caplog.records) == 5
