from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from lightbus.utilities.django import uses_django_db


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a Django in place that notes when, and by which way, connections are closed."""
    notes: list[str] = []

    def sync_to_async(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def called() -> Any:
            notes.append("in the thread of the ORM:")
            return function()

        return called

    modules = {name: ModuleType(name) for name in ("django", "django.db", "asgiref", "asgiref.sync")}
    modules["django.db"].__dict__["reset_queries"] = lambda: notes.append("reset")
    modules["django.db"].__dict__["close_old_connections"] = lambda: notes.append("close")
    modules["asgiref.sync"].__dict__["sync_to_async"] = sync_to_async
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return notes


def test_connections_are_closed_around_a_def_handler(journal: list[str]) -> None:
    """Connections are closed before and after a `def` handler, which gets its arguments and gives its result.

    Before it the queries are forgotten that Django remembers with DEBUG on.
    """

    @uses_django_db
    def handler(event_message: str, *, name: str) -> str:
        journal.append(f"{event_message} {name}")
        return "result"

    assert handler("event", name="sally") == "result"
    assert journal == ["reset", "close", "event sally", "close"]


def test_connections_are_closed_around_an_async_def_handler(journal: list[str]) -> None:
    """The same for an `async def` handler, in the thread where the ORM has its connections."""

    @uses_django_db
    async def handler(event_message: str, *, name: str) -> str:
        journal.append(f"{event_message} {name}")
        return "result"

    assert asyncio.run(handler("event", name="sally")) == "result"
    there = "in the thread of the ORM:"
    assert journal == [there, "reset", "close", "event sally", there, "close"]


def test_closed_after_an_error_too(journal: list[str]) -> None:
    """A handler that raises leaves no broken connection behind, and its error arrives."""

    @uses_django_db
    def handler() -> None:
        raise ValueError("the server has gone away")

    @uses_django_db
    async def async_handler() -> None:
        handler()

    with pytest.raises(ValueError, match="gone away"):
        asyncio.run(async_handler())
    assert journal.count("close") == 4


def test_handler_keeps_its_name_and_kind() -> None:
    """Name, parameters, and `def` or `async def` are unchanged."""

    @uses_django_db
    async def create_user(username: str) -> None: ...

    assert create_user.__name__ == "create_user"
    assert asyncio.iscoroutinefunction(create_user)
