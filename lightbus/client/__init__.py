"""`bus.client`: registering, calling, firing, listening, hooks, schedules, and the life of the bus in this process."""

from __future__ import annotations

from typing import Any

from ..blocking import forbid_in_loop
from ..deadline import Deadline
from ..typing import BusOptions, Kwargs
from .core import EngineState
from .firing import Firing
from .life import Life
from .listening import Listening
from .names import Names
from .timing import Timing

__all__ = ["BusClient", "EngineState"]


class BusClient(Names, Firing, Listening, Timing, Life):
    """
    One bus, as this process uses it. Making one opens nothing: no thread, no socket, no file.

    Any thread and any event loop may use it; after a fork the child has a fresh one of the same settings.

    Args:
        config: the settings.
        plugins: plugins to add to those that the settings enable.

    """

    def call_or_fire(self, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None) -> Any:
        """Call what is a procedure, fire what is an event. Raises what either raises."""
        # Only a call can be meant for one peer, whose API may be one that nobody advertises.
        is_targeted = options is not None and options.get("peer") is not None
        if not is_targeted and self._is_event(api_name, name):
            return self.fire_event_blocking(api_name, name, kwargs, options)
        return self.call_rpc_blocking(api_name, name, kwargs, options)

    def _is_event(self, api_name: str, name: str) -> bool:
        if api_name in self.api_registry.names():
            return name in self.api_registry.get(api_name).events
        engine = self.engine
        if api_name not in engine.snapshot.by_api:
            forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async() or .fire_async()")
            self._door().resolve(api_name, Deadline.after(self.config.api(api_name).rpc_timeout))
        return (api_name, name) in engine.snapshot.events
