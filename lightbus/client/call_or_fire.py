"""`bus.auth.check_password()`: find out whether a name is a procedure's or an event's, and call or fire it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..blocking import forbid_in_loop
from ..config import Config
from ..deadline import Deadline, ServedCall, current_call, current_chain
from ..exceptions import NotReachable
from ..typing import BusOptions, Kwargs
from .engine_holder import EngineHolder
from .options import CALL_OR_FIRE_OPTIONS, check_options, timeout_of
from .outbox import UnpublishedEvents
from .registration import Registration

__all__ = ["CallOrFire"]

CallOrFireFunction = Callable[[str, str, Kwargs, BusOptions | None], Any]


class CallOrFire:
    """
    Calls or fires a name from a plain thread, which it blocks.

    Args:
        config: the settings.
        engines: knows what peers publish now.
        registration: knows what this process declares.
        unpublished: knows which events this host has seen before.
        call, fire: call a procedure, fire an event.

    """

    def __init__(
        self,
        config: Config,
        engines: EngineHolder,
        registration: Registration,
        unpublished: UnpublishedEvents,
        *,
        call: CallOrFireFunction,
        fire: CallOrFireFunction,
    ) -> None:
        self._config = config
        self._engines = engines
        self._registration = registration
        self._unpublished = unpublished
        self._call = call
        self._fire = fire

    def __call__(self, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None) -> Any:
        """
        Call a procedure, or fire an event, whichever has this name. Raises what either raises.

        A name is an event's if the event is declared here, or published at the moment, or was seen on this host before:
        such an event is stored while no peer publishes it.
        """
        # Only a call has the option `peer`. The peer's API may be one that is never advertised.
        if options is not None and _is_targeted(options):
            return self._call(api_name, name, kwargs, options)
        api = self._registration.apis.find(api_name)
        if api is not None:
            do = self._fire if name in api.events else self._call
            return do(api_name, name, kwargs, options)
        snapshot = self._engines.engine.snapshot
        if (api_name, name) in snapshot.events:
            return self._fire(api_name, name, kwargs, options)
        if api_name in snapshot.by_api:
            return self._call(api_name, name, kwargs, options)
        forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async() or .fire_async()")
        if options is not None:  # procedure or event is not known yet, so the options of both are allowed
            check_options(options, CALL_OR_FIRE_OPTIONS, f"{api_name}.{name}")
        seconds = timeout_of(options or {}, self._config.api(api_name).rpc_timeout, f"{api_name}.{name}")
        # One deadline for both steps: the time to find the API is taken from the call's time.
        deadline = Deadline.after(seconds)
        token = current_call.set(ServedCall(deadline, current_chain()))
        try:
            do = self._fire if self._is_event_once_found(api_name, name, deadline) else self._call
            return do(api_name, name, kwargs, options)
        finally:
            current_call.reset(token)

    def _is_event_once_found(self, api_name: str, name: str, deadline: Deadline) -> bool:
        try:
            self._engines.channel.resolve(api_name, deadline)
        except NotReachable:
            if not self._unpublished.is_known(api_name, name):
                raise
            return True
        return (api_name, name) in self._engines.engine.snapshot.events


def _is_targeted(options: Any) -> bool:
    return isinstance(options, Mapping) and options.get("peer") is not None
