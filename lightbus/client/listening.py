"""Declaring listeners: who hears what, under which name, and whether that can work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..exceptions import DuplicateListenerName, InvalidEventListener, NothingToListenFor
from ..runtime.listening import Listener, OnError, wants_beyond
from ..typing import BusOptions
from .calls import check_options
from .core import ClientCore

__all__ = ["Listening"]

logger = logging.getLogger("lightbus.client")


LISTEN_OPTIONS = ("since",)


class Listening(ClientCore):
    """The part of the client that listens."""

    def listen_for_event(
        self,
        api_name: str,
        name: str,
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """Call `listener` for each of these events. See `BusPath.listen`."""
        self.listen_for_events(
            [(api_name, name)], listener, listener_name=listener_name, options=options, on_error=on_error
        )

    def listen_for_events(
        self,
        events: Iterable[tuple[str, str]],
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """
        Call `listener` for each of several events, given as `(api name, event name)`; `"*"` is every event of an API.

        Raises InvalidEventListener, DuplicateListenerName, NothingToListenFor, EventNotFound.
        """
        if not callable(listener):
            raise InvalidEventListener(f"{listener!r} cannot listen: it is not callable. Pass the function itself.")
        by_api: dict[str, list[str]] = {}
        for api_name, name in events:
            self._check_event(api_name, name, listener)
            by_api.setdefault(api_name, []).append(name)
        if not by_api:
            raise NothingToListenFor(f"{listener} was given no event to listen for. Pass (api name, event name) pairs.")
        chosen: Any = _name_of(listener) if listener_name is None else listener_name
        if not isinstance(chosen, str) or not chosen.strip():
            raise InvalidEventListener(
                f"listener_name is {chosen!r}. It is a text that tells this listener from others."
            )
        self._check_group(chosen)
        policy = _policy(on_error, chosen)
        if options is not None:
            check_options(options, LISTEN_OPTIONS, f"the listener {chosen}")
        if options and options.get("since") is not None:
            logger.warning("There is no journal yet: since=%r of the listener %s is ignored", options["since"], chosen)
        for api_name, names in by_api.items():
            self._add_listener(
                Listener(
                    api=api_name,
                    events=tuple(names),
                    name=chosen,
                    function=listener,
                    on_error=policy,
                )
            )

    def _add_listener(self, listener: Listener) -> None:
        if any(other.api == listener.api and other.name == listener.name for other in self.listeners):
            raise DuplicateListenerName(
                f"The API '{listener.api}' has a listener named '{listener.name}' already. The name is what tells "
                "consumer groups apart: pass another listener_name."
            )
        self.listeners.append(listener)
        self._change_worker(lambda worker: worker.add_listener(listener))

    def _check_event(self, api_name: str, name: str, listener: Callable[..., Any]) -> None:
        api = self.api_registry.find(api_name)
        if api is None or name == "*":
            return
        signature = api.get_event(name).signature
        if signature.wildcard is None:
            wanted = wants_beyond(listener, {parameter.name for parameter in signature.parameters})
            if wanted is not None:
                raise InvalidEventListener(
                    f"{_name_of(listener)} wants an argument '{wanted}', which {api_name}.{name} does not have. "
                    f"It is declared as {signature.describe()}."
                )

    def _check_group(self, name: str) -> None:
        default = self.config.default_name
        if default is not None and not default.says_something and "{" not in name:
            raise InvalidEventListener(
                f"The listener {name} needs a service name: this program's would be '{default.name}', which another "
                "service may have, too, and then each would get half of the events. "
                "Write lightbus.create(service_name='...'), or set LIGHTBUS_SERVICE_NAME."
            )


def _policy(on_error: OnError | str | None, name: str) -> OnError:
    if on_error is None:
        return OnError.SHUTDOWN
    try:
        return OnError(on_error)
    except ValueError:
        known = ", ".join(f"OnError.{policy.name}" for policy in OnError)
        raise InvalidEventListener(f"on_error of the listener {name} is {on_error!r}. There are: {known}.") from None


def _name_of(listener: Callable[..., Any]) -> str:
    while isinstance(listener, partial):
        listener = listener.func
    named = listener if hasattr(listener, "__qualname__") else type(listener)
    return f"{named.__module__}.{named.__qualname__}"
