"""The live events of one page."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.raw_events import raw_events
from lightbus.dashboard import viewer as module
from lightbus.dashboard.viewer import AT_ONCE, PageViewer
from lightbus.events.listening.raw_events import RawEvents
from lightbus.message import EventMessage
from lightbus.wire.plain import MAX_DEPTH, TOO_DEEP


def shown(viewer: PageViewer, *events: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    for number, (name, kwargs) in enumerate(events):
        viewer.add(raw_events(name, kwargs, first=number))
    return [each["kwargs"] for each in viewer.take()["events"]]


EVENTS = [("auth.registered", {"name": "Ada", "old": True}), ("auth.left", {"name": "Grace"}), ("shop.sold", {"n": 1})]


@pytest.mark.parametrize(
    ("pattern", "text", "wanted"),
    [
        ("", "", [0, 1, 2]),
        ("auth.*", "", [0, 1]),
        ("*.sold", "", [2]),
        ("", "ada", [0]),
        ("", '"name":"ada"', [0]),
        ("", "true", [0]),
        ("auth.*", "gr", [1]),
        ("nothing", "", []),
    ],
)
def test_filters_of_a_page(pattern: str, text: str, wanted: list[int]) -> None:
    """By name, with wildcards, and by a text in the arguments as JSON, in any case."""
    assert shown(PageViewer(pattern, text), *EVENTS) == [EVENTS[each][1] for each in wanted]


@pytest.mark.parametrize(
    "parts", [[1] * (AT_ONCE + 7), [AT_ONCE + 7], [20, AT_ONCE - 13], [3, 10, AT_ONCE - 6], [7, AT_ONCE]]
)
def test_too_many_events(parts: list[int]) -> None:
    """The newest are shown, and the others counted; then it begins again."""
    viewer = PageViewer("", "")
    begin = 0
    for count in parts:
        numbers = range(begin, begin + count)
        viewer.add(raw_events("auth.registered", *({"n": number} for number in numbers), first=begin))
        begin += count
    told = viewer.take()
    assert [each["kwargs"]["n"] for each in told["events"]] == [*range(7, AT_ONCE + 7)]
    assert told["passed_over"] == 7
    assert viewer.take() == {"events": [], "passed_over": 0}


def test_cached_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented event names take no memory; wanted events are still shown."""
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    viewer = PageViewer("auth.*", "")
    wanted = shown(viewer, *((f"auth.{number}", {"n": number}) for number in range(10)), *EVENTS)
    assert wanted == [*({"n": number} for number in range(10)), *(EVENTS[each][1] for each in (0, 1))]
    assert len(viewer._wanted) <= 3


def test_hidden_events_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of events a second all but a few are only counted: the cost of an open page."""
    decoded = 0
    plain = RawEvents.messages

    def messages(events: RawEvents) -> list[EventMessage]:
        nonlocal decoded
        decoded += len(events.rows)
        return plain(events)

    monkeypatch.setattr(RawEvents, "messages", messages)
    viewer = PageViewer("auth.*", "")
    for _ in range(100):
        viewer.add(raw_events("auth.registered", *({"n": n} for n in range(30))))
        viewer.add(raw_events("shop.sold", {"n": 1}))
    told = viewer.take()
    assert (len(told["events"]), told["passed_over"], decoded) == (AT_ONCE, 3000 - AT_ONCE, AT_ONCE)


def test_events_are_ordered_by_time() -> None:
    """Those of different topics arrive in any order."""
    viewer = PageViewer("", "")
    viewer.add(raw_events("auth.registered", {"n": 3}, {"n": 4}, first=3))
    viewer.add(raw_events("auth.left", {"n": 2}, first=2))
    assert [each["kwargs"]["n"] for each in viewer.take()["events"]] == [2, 3, 4]


def test_events_that_json_cannot_hold() -> None:
    """A sentence stands in place of their arguments, and no text is found in them; the others are shown."""
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        deep = {"in": deep}
    for text in ("", "grace"):
        viewer = PageViewer("", text)
        viewer.add(raw_events("auth.left", {"deep": deep}, {"name": "Grace"}))
        told = viewer.take()
        assert [each["kwargs"] for each in told["events"]] == [*([] if text else [TOO_DEEP]), {"name": "Grace"}]
        assert told["passed_over"] == 0
