"""`bus.client`: registering, calling, firing, listening, hooks, schedules, and the life of the bus in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..blocking import forbid_in_loop
from ..deadline import Deadline, ServedCall, current_call, current_chain
from ..exceptions import NotReachable
from ..typing import BusOptions, Kwargs
from .calling import CALL_OPTIONS, check_options, timeout_of
from .engine_holder import EngineState
from .firing import FIRE_OPTIONS, Firing
from .history import Past
from .lifecycle import Life
from .listening import Listening
from .schedules import Timing

__all__ = ["BusClient", "EngineState"]


class BusClient(Past, Firing, Listening, Timing, Life):
    """
    One bus, as this process uses it. Making one opens nothing: no thread, no socket, no file.

    Any thread and any event loop may use it; after a fork the child has a fresh one of the same settings.

    Args:
        config: the settings.
        plugins: plugins to add to those that the settings enable.

    """

    def call_or_fire(self, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None) -> Any:
        """
        Call what is a procedure, fire what is an event. Raises what either raises.

        An event is what is declared as one here, or published at the moment, or was seen on this host before: that is
        kept where nobody publishes it.
        """
        # Only a call can be meant for one peer, whose API may be one that nobody advertises.
        if isinstance(options, Mapping) and options.get("peer") is not None:
            return self.call_rpc_blocking(api_name, name, kwargs, options)
        if self._is_event(api_name, name):
            return self.fire_event_blocking(api_name, name, kwargs, options)
        if self.api_registry.find(api_name) is not None or api_name in self.engine.snapshot.by_api:
            return self.call_rpc_blocking(api_name, name, kwargs, options)
        forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async() or .fire_async()")
        if options is not None:  # which of both it is, and so which options it has, is not known yet
            check_options(options, (*CALL_OPTIONS, *FIRE_OPTIONS[1:]), f"{api_name}.{name}")
        seconds = timeout_of(options or {}, self.config.api(api_name).rpc_timeout, f"{api_name}.{name}")
        # One deadline for both steps: what looking for the API takes, the call no longer has.
        whole = ServedCall(Deadline.after(seconds), current_chain())
        token = current_call.set(whole)
        try:
            assert whole.deadline is not None
            if self._is_event_after_looking(api_name, name, whole.deadline):
                return self.fire_event_blocking(api_name, name, kwargs, options)
            return self.call_rpc_blocking(api_name, name, kwargs, options)
        finally:
            current_call.reset(token)

    def _is_event_after_looking(self, api_name: str, name: str, deadline: Deadline) -> bool:
        try:
            self._door().resolve(api_name, deadline)
        except NotReachable:
            if not self._is_known(api_name, name):
                raise
            return True
        return self._is_event(api_name, name)

    def _is_event(self, api_name: str, name: str) -> bool:
        api = self.api_registry.find(api_name)
        return (api_name, name) in self.engine.snapshot.events if api is None else name in api.events
