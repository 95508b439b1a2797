"""Events that listeners never get: logged, counted, and passed to the hook."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import Context
from lightbus.events.listening.loss_reports import LossReports


@pytest.mark.parametrize("fails", [False, True])
def test_deleted_events_are_passed_to_the_hook(caplog: pytest.LogCaptureFixture, fails: bool) -> None:
    """They are counted and logged with a remedy; a failing hook is logged and has no other effect."""
    told: list[dict[str, Any]] = []

    async def hook(**details: Any) -> None:
        told.append(details)
        if fails:
            raise ValueError("no luck")

    async def main() -> None:
        context, counts = Context(), Counter[str]()
        context.hooks.add("on_events_lost", hook)
        LossReports(context, counts).deleted("auth", "seen", "g", "the publisher", 7)
        await wait_until_async(lambda: told)
        if fails:
            await wait_until_async(lambda: "The hook on_events_lost failed" in caplog.text)
        assert counts == {"lost": 7}

    asyncio.run(main())
    [details] = told
    details.pop("client")
    assert details == {"api_name": "auth", "event_name": "seen", "group": "g", "count": 7}
    assert "7 events of auth.seen were deleted by the retention of the publisher before the group g" in caplog.text
    assert "Raise journal.max_events or journal.max_bytes" in caplog.text


def test_deletions_are_logged_once_and_each_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Also if the number of events differs; those of another event, group or publisher are logged, too."""
    counts: Counter[str] = Counter()
    reports = LossReports(Context(), counts)
    for count in (7, 8, 9):
        reports.deleted("auth", "seen", "g", "the publisher", count)
    assert counts == {"lost": 24}
    [message] = caplog.messages
    assert message.startswith("7 events of auth.seen were deleted")
    for event, group, publisher in (("gone", "g", "one"), ("seen", "h", "one"), ("seen", "g", "another")):
        reports.deleted("auth", event, group, publisher, 1)
    assert len(caplog.messages) == 4


def test_events_lost_in_transit_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each gap is counted; it is logged once for each event."""
    counts: Counter[str] = Counter()
    reports = LossReports(Context(), counts)
    for event in ("loose", "loose", "other"):
        reports.missed("auth", event, "the publisher", 3)
    assert counts == {"gaps": 3}
    assert caplog.text.count("3 events of auth.loose from the publisher were lost") == 1
    assert caplog.text.count("3 events of auth.other from the publisher were lost") == 1
