"""Attributes of clients in Lightbus 1.x: aliases, or errors that say what to use instead."""

from __future__ import annotations

import asyncio
from typing import Any

from ..exceptions import UnsupportedUse
from ..service.hooks import HookRegistry
from .lifecycle import Lifecycle
from .plugin_loader import PluginLoader

__all__ = ["GONE", "OldClientNames"]

_NO_TRANSPORTS = "There are no transports to choose."
_ERRORS = "Errors are raised where they occur, and those of a worker's tasks are logged: there is no queue of them."

GONE = {
    "error_monitor": _ERRORS,
    "error_queue": _ERRORS,
    "event_client": "The client itself has fire_event(), listen_for_event() and listen_for_events().",
    "raise_errors": _ERRORS,
    "rpc_result_client": "The client itself has call_rpc_remote() and consume_rpcs().",
    "start_server": "Write `await client.start_worker()`.",
    "stop_server": "Write `await client.stop_worker()`.",
    "transport_registry": _NO_TRANSPORTS,
}
"""Removed name -> what to do instead."""


class OldClientNames:
    """The attributes of a client that exist for programs written for 1.x."""

    hooks: HookRegistry
    _lifecycle: Lifecycle

    @property
    def hook_registry(self) -> HookRegistry:
        """The hooks: `register_callback(name, fn, before_plugins=False)`."""
        return self.hooks

    @property
    def plugin_registry(self) -> PluginLoader:
        """The plugins: `is_plugin_loaded(plugin_class)`."""
        return self._lifecycle.plugins

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs in this thread. Raises UnsupportedUse where none does: a client has no loop."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise UnsupportedUse(
                "No event loop runs in this thread, and a client has none of its own: calls and `.fire()` need none. "
                "Run what is asynchronous with asyncio.run(...), and a worker with client.run_forever()."
            ) from None

    def __getattr__(self, name: str) -> Any:
        if name in GONE:
            raise AttributeError(f"A client has no '{name}' any more. {GONE[name]}")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
