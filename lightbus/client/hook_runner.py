"""The hooks of a client: the decorators that declare them, and running those around its own calls and events."""

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
    """The attribute `bus.client.on_start`, for example: the decorator for the hook of the same name."""

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
        registry: the registered functions; also an attribute.
        engines: the engine whose thread pool runs `def` functions.

    """

    def __init__(self, client: object, registry: HookRegistry, engines: EngineHolder) -> None:
        self.has = registry.has
        self.is_about = registry.is_about
        self._client = client
        self.registry = registry
        self._engines = engines

    def around(self, name: str, **details: Any) -> AbstractContextManager[None]:
        """Return the context manager of the hooks around a call or a firing, to enter in the caller's context."""
        return self.registry.around(name, client=self._client, **details)

    async def run(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook; `def` functions in a thread."""
        if self.has(name):
            call = CallersContext(self._engines.engine.executor).call
            await self.registry.run(name, call, client=self._client, **details)

    def run_blocking(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook in this plain thread."""
        if self.has(name):
            self.registry.run_blocking(name, CallersContext.call_blocking, client=self._client, **details)
