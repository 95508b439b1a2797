"""Which groups a publisher has is asked page by page, and of one that makes them up not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lightbus.events.listening import group_pages as module
from lightbus.events.listening.group_pages import PAGE, read_groups
from lightbus.exceptions import ProtocolError


class Publisher:
    """Answers for so many groups, in the order of API and name."""

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
def test_all_are_read_once(count: int, asked: int) -> None:
    """However many there are; where they fit in a page it is one question."""
    publisher = Publisher(count)
    assert asyncio.run(read_groups(publisher.ask)) == publisher.groups
    assert publisher.asked == asked


def test_who_tells_the_same_again_is_not_asked_for_ever() -> None:
    """It does not know of pages, or lies."""
    publisher = Publisher(PAGE)
    with pytest.raises(ProtocolError, match="no end, or repeats itself"):
        asyncio.run(read_groups(lambda which: publisher.ask({**which, "after": []})))
    assert publisher.asked == 2


def test_who_makes_groups_up_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are so many pages, and no more."""
    monkeypatch.setattr(module, "MAX_PAGES", 3)
    publisher = Publisher(5 * PAGE)
    with pytest.raises(ProtocolError, match="has no end"):
        asyncio.run(read_groups(publisher.ask))
    assert publisher.asked == 3
