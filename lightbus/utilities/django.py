"""Keep Django's database connections usable in a worker, which has no requests at whose ends Django closes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["uses_django_db"]

F = TypeVar("F", bound=Callable[..., Any])


def uses_django_db(function: F) -> F:
    """
    Close broken and outdated database connections before and after `function`, a `def` or an `async def`.

    Before `function`, the list of queries that Django keeps with DEBUG on is cleared: it would grow with each event.

    Use it on handlers that use Django's ORM: a connection that the server has dropped would otherwise
    fail every event from then on. Connections inside a transaction stay open, by Django's own rule.
    Django is imported at the first call.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
            await _begin_async()
            try:
                return await function(*args, **kwargs)
            finally:
                await _close_old_connections_async()

        return cast(F, wrapped_async)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _begin()
        try:
            return function(*args, **kwargs)
        finally:
            _close_old_connections()

    return cast(F, wrapped)


def _begin() -> None:
    from django.db import reset_queries  # type: ignore[import-not-found, import-untyped, unused-ignore]

    reset_queries()
    _close_old_connections()


def _close_old_connections() -> None:
    from django.db import close_old_connections  # type: ignore[import-not-found, import-untyped, unused-ignore]

    close_old_connections()


async def _begin_async() -> None:
    await _in_django_thread(_begin)


async def _close_old_connections_async() -> None:
    await _in_django_thread(_close_old_connections)


async def _in_django_thread(function: Callable[[], None]) -> None:
    # Connections belong to threads, and the ORM's asynchronous methods run in the thread that `sync_to_async` chooses.
    from asgiref.sync import sync_to_async  # type: ignore[import-not-found, import-untyped, unused-ignore]

    await sync_to_async(function)()
