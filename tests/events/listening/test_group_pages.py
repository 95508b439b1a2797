"""The groups of a publisher are read page by page, and not for ever if it invents them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lightbus.events.listening import group_pages as module
from lightbus.events.listening.group_pages import PAGE, read_groups
from lightbus.exceptions import ProtocolError


class Publisher:
    """Answers with this many groups, in the order of API and name."""

    def __init__(self, count: int) -> None:
        self.groups = [{"api": f"api{number % 3}", "name": f"{number:07}"} for number in range(count)]
        self.groups.sort(key=_key)
        self.asked = 0

    async def ask(self, which: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked += 1
        return [each for each in self.groups if _key(each) > which["after"]][: which["limit"]]


def _key(group: dict[str, Any]) -> list[str]:
    return [group["api"], group["name"]]


@pytest.mark.parametrize(
    ("count", "asked"), [(0, 1), (1, 1), (PAGE - 1, 1), (PAGE, 2), (PAGE + 1, 2), (3 * PAGE + 7, 4)]
)
def test_all_groups_are_read_once(count: int, asked: int) -> None:
    """However many there are; if they fit in a page, it is one request."""
    publisher = Publisher(count)
    assert asyncio.run(read_groups(publisher.ask)) == publisher.groups
    assert publisher.asked == asked


def test_a_publisher_that_repeats_a_page_is_not_asked_for_ever() -> None:
    """It does not know pages, or lies."""
    publisher = Publisher(PAGE)
    with pytest.raises(ProtocolError, match="no end, or repeats itself"):
        asyncio.run(read_groups(lambda which: publisher.ask({**which, "after": []})))
    assert publisher.asked == 2


def test_a_publisher_that_invents_groups_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of pages is limited."""
    monkeypatch.setattr(module, "MAX_PAGES", 3)
    publisher = Publisher(5 * PAGE)
    with pytest.raises(ProtocolError, match="has no end"):
        asyncio.run(read_groups(publisher.ask))
    assert publisher.asked == 3
