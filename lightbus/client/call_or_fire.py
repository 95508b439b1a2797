"""`bus.auth.check_password()`: finds out whether a name is a procedure's or an event's, and calls or fires it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..blocking import forbid_in_loop
from ..config import Config
from ..deadline import Deadline, ServedCall, current_call, current_chain
from ..exceptions import NotReachable
from ..typing import BusOptions, Kwargs
from .engine_holder import EngineHolder
from .options import CALL_OPTIONS, FIRE_OPTIONS, check_options, timeout_of
from .outbox import UnpublishedEvents
from .registration import Registration

__all__ = ["CallOrFire"]

CallOrFireFunction = Callable[[str, str, Kwargs, BusOptions | None], Any]


class CallOrFire:
    """
    Blocks a plain thread.

    Args:
        config: the settings.
        engines: knows what is published now.
        registration: knows what is declared here.
        unpublished: says which events were seen on this host before.
        call, fire: do it.

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

        An event is what is declared as one here, or published at the moment, or was seen on this host before: that is
        kept where nobody publishes it.
        """
        # Only a call can be meant for one peer, whose API may be one that nobody advertises.
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
        if options is not None:  # which of both it is, and so which options it has, is not known yet
            check_options(options, (*CALL_OPTIONS, *FIRE_OPTIONS[1:]), f"{api_name}.{name}")
        seconds = timeout_of(options or {}, self._config.api(api_name).rpc_timeout, f"{api_name}.{name}")
        # One deadline for both steps: what looking for the API takes, the call no longer has.
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
