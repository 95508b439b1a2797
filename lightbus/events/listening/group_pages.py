"""Reads the groups of a publisher page by page: ten thousand in one answer would take it half a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ...exceptions import ProtocolError

__all__ = ["PAGE", "read_groups"]

PAGE = 500
"""Groups in one answer."""

MAX_PAGES = 200
"""Ten times the limit of a publisher (`group_directory.MAX_GROUPS`): groups of adopted journals are added to that."""


async def read_groups(ask: Callable[[dict[str, Any]], Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """
    Return all groups that a publisher reports, fetched page by page.

    Args:
        ask: requests one page of groups, given the arguments for the page.

    Raises ProtocolError if the pages have no end, and whatever `ask` raises.

    """
    found: list[dict[str, Any]] = []
    after: list[str] = []
    for _ in range(MAX_PAGES):
        page = await ask({"after": after, "limit": PAGE})
        found += page
        if len(page) < PAGE:
            return found
        last = max([each["api"], each["name"]] for each in page)
        if last <= after:
            break
        after = last
    raise ProtocolError("its list of groups has no end, or repeats itself. Is it of another version of Lightbus?")
