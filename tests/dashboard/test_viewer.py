"""What one page shows of the events that happen."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus import EventMessage
from lightbus.dashboard import viewer as module
from lightbus.dashboard.viewer import AT_ONCE, PageViewer


def shown(viewer: PageViewer, *events: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    for number, (name, kwargs) in enumerate(events):
        api, _, event = name.rpartition(".")
        viewer.add(EventMessage(api_name=api, event_name=event, kwargs=kwargs, id=str(number)))
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
def test_what_a_page_asks_for(pattern: str, text: str, wanted: list[int]) -> None:
    """By name, with wildcards, and by a text in the arguments as JSON has them, in small letters or large."""
    assert shown(PageViewer(pattern, text), *EVENTS) == [EVENTS[each][1] for each in wanted]


def test_more_than_anybody_reads() -> None:
    """The newest are shown, and the others counted; then it begins anew."""
    viewer = PageViewer("", "")
    for number in range(AT_ONCE + 7):
        viewer.add(EventMessage(api_name="auth", event_name="registered", kwargs={"n": number}))
    told = viewer.take()
    assert [each["kwargs"]["n"] for each in told["events"]] == [*range(7, AT_ONCE + 7)]
    assert told["passed_over"] == 7
    assert viewer.take() == {"events": [], "passed_over": 0}


def test_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up names of events takes no memory; what is asked for is shown as before."""
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    viewer = PageViewer("auth.*", "")
    wanted = shown(viewer, *((f"auth.{number}", {"n": number}) for number in range(10)), *EVENTS)
    assert wanted == [*({"n": number} for number in range(10)), *(EVENTS[each][1] for each in (0, 1))]
    assert len(viewer._wanted) <= 3
