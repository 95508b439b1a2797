"""The hooks of a client: how they are declared on it, and how those around its own calls and events are run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, Self, overload

from ..service.execution import CallersContext
from ..service.hooks import HookDecorator, HookRegistry, decorator
from .engine_holder import EngineHolder

__all__ = ["HookPoint", "HookRunner"]


class _HasHooks(Protocol):
    hooks: HookRegistry


class HookPoint:
    """`bus.client.on_start` and its like: the decorator of the hook that has the attribute's name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...

    @overload
    def __get__(self, client: _HasHooks, owner: type) -> HookDecorator: ...

    def __get__(self, client: _HasHooks | None, owner: type) -> Self | HookDecorator:
        return self if client is None else decorator(client.hooks, self.name)


class HookRunner:
    """
    Runs the hooks around a call or an event, in the caller's context.

    Args:
        client: passed to the functions as `client`.
        registry: which functions there are; it is an attribute, too.
        engines: whose threads `def` functions run in.

    """

    def __init__(self, client: object, registry: HookRegistry, engines: EngineHolder) -> None:
        self.has = registry.has
        self.is_about = registry.is_about
        self._client = client
        self.registry = registry
        self._engines = engines

    def around(self, name: str, **details: Any) -> AbstractContextManager[None]:
        """Return the context managers to enter around a call or a firing, in the caller's context."""
        return self.registry.around(name, client=self._client, **details)

    async def run(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook; `def` functions in a thread."""
        if self.has(name):
            call = CallersContext(self._engines.engine.executor).call
            await self.registry.run(name, call, client=self._client, **details)

    def run_blocking(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook in this thread, which is a plain one."""
        if self.has(name):
            self.registry.run_blocking(name, CallersContext.call_blocking, client=self._client, **details)
