"""A bus in a Flask program: access for views, a route for probes, and the application context for handlers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from flask import Flask, Response, current_app, jsonify

from ..exceptions import UsageError
from ..message import EventMessage, RpcMessage
from ..path import BusPath
from ..plugins import LightbusPlugin, register_plugin
from ..service.hooks import HookRegistry
from .health import bus_health

__all__ = ["Lightbus", "current_bus"]

NAME = "lightbus"


class Lightbus:
    """
    The extension: `Lightbus(app, bus)`, or `Lightbus(bus=bus)` and later `init_app(app)`.

    Views use the bus itself, or `current_bus()`. Each call and event that this process serves runs in its own
    application context.

    Args:
        app: the program.
        bus: the bus.
        health: the path at which probes get 200, or 503 and the reasons; None for no such route.
        needs: APIs that peers must serve for a 200.

    """

    def __init__(
        self,
        app: Flask | None = None,
        bus: BusPath | None = None,
        *,
        health: str | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        if isinstance(app, BusPath) or not isinstance(bus, BusPath):
            raise UsageError("Lightbus(app, bus) takes the application first. Without one, write Lightbus(bus=bus).")
        self.bus = bus
        self._health = health
        self._needs = tuple(needs)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the bus to a program."""
        app.extensions[NAME] = self
        if self._health is not None:
            app.add_url_rule(self._health, "lightbus_health", self._answer)
        _serve_in_context(self.bus.client.hooks, app)

    def _answer(self) -> tuple[Response, int]:
        found = bus_health(self.bus, self._needs)
        return jsonify(found.body), found.status


def current_bus() -> BusPath:
    """Return the bus of the current application. Raises UsageError if it has none."""
    found = current_app.extensions.get(NAME)
    if found is None:
        raise UsageError(f"The application {current_app.name} has no bus: lightbus.contrib.flask.Lightbus(app, bus).")
    bus: BusPath = found.bus
    return bus


def _serve_in_context(hooks: HookRegistry, app: Flask) -> None:
    """Run handlers in the context of this program; it replaces an earlier program, which tests make several of."""
    for hook in hooks.functions("around_rpc_execution"):
        earlier = getattr(hook, "__self__", None)
        if isinstance(earlier, _HandlersInAppContext):
            earlier.app = app
            return
    register_plugin(hooks, _HandlersInAppContext(app))


class _HandlersInAppContext(LightbusPlugin):
    """Runs handlers in an application's context."""

    priority = 100

    def __init__(self, app: Flask) -> None:
        self.app = app

    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> AbstractContextManager[Any]:
        """Return the context for a call."""
        context: AbstractContextManager[Any] = self.app.app_context()
        return context

    def around_event_execution(
        self, *, event_message: EventMessage, listener_name: str, client: Any
    ) -> AbstractContextManager[Any]:
        """Return the context for an event."""
        context: AbstractContextManager[Any] = self.app.app_context()
        return context
