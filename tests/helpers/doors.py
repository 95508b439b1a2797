"""Sync and async calls in one form, so that one test body checks both."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

__all__ = ["DOORS", "AsyncDoor", "Door", "SyncDoor"]


class Door(Protocol):
    """
    A way to call and to fire: `door.call(bus.auth.check_password, user="sally", password="secret")`.

    The path's own errors come through unchanged, at either door.
    """

    def call(self, path: Any, /, **kwargs: Any) -> Any:
        """Call the procedure at `path` and return its result."""
        ...

    def fire(self, path: Any, /, **kwargs: Any) -> Any:
        """Fire the event at `path` and return its message."""
        ...

    def fire_many(self, path: Any, events: Any, /, **kwargs: Any) -> Any:
        """Fire the events together and return their ids."""
        ...


class SyncDoor:
    """`bus.auth.x(...)` in a plain thread."""

    def call(self, path: Any, /, **kwargs: Any) -> Any:
        """Call and block."""
        return path(**kwargs)

    def fire(self, path: Any, /, **kwargs: Any) -> Any:
        """Fire and block."""
        return path.fire(**kwargs)

    def fire_many(self, path: Any, events: Any, /, **kwargs: Any) -> Any:
        """Fire and block."""
        return path.fire_many(events, **kwargs)


class AsyncDoor:
    """`await bus.auth.x.call_async(...)`, each time on a loop of its own, as a script with `asyncio.run` does."""

    def call(self, path: Any, /, **kwargs: Any) -> Any:
        """Run the call's coroutine."""
        return asyncio.run(self._awaited(path.call_async, kwargs))

    def fire(self, path: Any, /, **kwargs: Any) -> Any:
        """Run the firing's coroutine."""
        return asyncio.run(self._awaited(path.fire_async, kwargs))

    def fire_many(self, path: Any, events: Any, /, **kwargs: Any) -> Any:
        """Run the firing's coroutine."""
        return asyncio.run(self._awaited(path.fire_many_async, {"events": events, **kwargs}))

    @staticmethod
    async def _awaited(method: Any, kwargs: dict[str, Any]) -> Any:
        return await method(**kwargs)


DOORS: dict[str, Door] = {"sync": SyncDoor(), "async": AsyncDoor()}
"""Both doors by the name that a test's id shows."""
