"""The plugin `django`: manages database connections around calls and events as Django does around requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import close_old_connections

from ...message import EventMessage, RpcMessage
from ...plugins import LightbusPlugin

__all__ = ["DjangoPlugin"]


class DjangoPlugin(LightbusPlugin):
    """
    Closes connections that are broken, or older than CONN_MAX_AGE, before and after each served call and event.

    For `def` handlers it closes those of the handler's thread, for `async def` handlers those of the thread that
    Django's asynchronous methods use. A connection in a transaction is not closed.
    """

    priority = 100

    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> AbstractContextManager[None]:
        """Close old connections around a call."""
        return _closing_connections()

    def around_event_execution(
        self, *, event_message: EventMessage, listener_name: str, client: Any
    ) -> AbstractContextManager[None]:
        """Close old connections around an event."""
        return _closing_connections()


@contextmanager
def _closing_connections() -> Iterator[None]:
    _close_old()
    try:
        yield
    finally:
        _close_old()


def _close_old() -> None:
    if asyncio._get_running_loop() is None:
        close_old_connections()
    else:  # runs before the handler's own queries, since it is submitted first
        SyncToAsync.single_thread_executor.submit(close_old_connections)
