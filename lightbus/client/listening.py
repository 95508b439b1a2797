"""Declaring listeners: which function handles which event, under which name, with checks of all arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from ..config import Config
from ..config.names import MAX_NAME_LENGTH
from ..exceptions import (
    DuplicateListenerName,
    InvalidDeclaration,
    InvalidEventListener,
    NothingToListenFor,
    did_you_mean,
)
from ..listener import Listener, OnError
from ..service.api import ApiRegistry
from ..service.batch_handlers import BatchHandler
from ..service.execution import is_generator
from ..service.handlers import Handler
from ..typing import BusOptions
from ..wire import field_types, fields
from .options import LISTEN_OPTIONS, check_options
from .worker_holder import WorkerHolder

__all__ = ["DURABLE", "Listening", "moment"]

_ID = re.compile("[0-9a-f]{16}-[0-9]+")
"""An event's id or native id: the id of an instance or a journal, and a number."""

DURABLE = "{service_name}-{listener_name}"
"""The default consumer group: the processes of a service share the events, and miss none while they are down."""


LONGEST_SERVICE = "s" * MAX_NAME_LENGTH

MAX_BATCH = 1000
"""The most events of a batch: all of them wait in memory, and are redelivered together if the process dies."""

MAX_BATCH_WAIT = 60.0
"""The longest wait of a batch for more events, in seconds: its events are acknowledged only after it."""


class Listening:
    """
    The part of a client that declares listeners.

    Args:
        config: the settings, with the service's default name.
        apis: the APIs registered here, whose events are known.
        workers: the worker to notify of a listener that is declared while it runs.

    Attributes:
        listeners: the declared listeners.

    """

    def __init__(self, config: Config, apis: ApiRegistry, workers: WorkerHolder) -> None:
        self.listeners: list[Listener] = []
        self._config = config
        self._apis = apis
        self._workers = workers

    def listen(
        self,
        events: Iterable[tuple[str, str]],
        listener: Callable[..., Any],
        *,
        listener_name: str | None,
        group: str | None,
        concurrency: int,
        max_deliveries: int,
        options: BusOptions | None,
        on_error: OnError | None,
        batch: int | None,
        batch_wait: float,
    ) -> None:
        """Declare a listener to events, given as `(api name, event name)`. Raises what `listen_for_events` raises."""
        by_api = self._events_by_api(events, listener, is_batch=batch is not None)
        name = _checked_name(listener, listener_name)
        # A name that differs in each process makes no group: a restarted process could not join it again.
        shared = None if group is None or "{" in name else _group(group, name)
        if shared is not None:
            self._check_group(name)
            _check_lambda(name, is_named=listener_name is not None)
        policy = _policy(on_error, name)
        _check_number("concurrency", concurrency, name)
        _check_number("max_deliveries", max_deliveries, name)
        _check_batch(batch, batch_wait, name)
        for api_name, names in by_api.items():
            self._add(
                Listener(
                    api=api_name,
                    events=tuple(names),
                    name=name,
                    function=listener,
                    on_error=policy,
                    group=shared,
                    concurrency=concurrency,
                    max_deliveries=max_deliveries,
                    since=_since(options, name),
                    batch=batch or 0,
                    batch_wait=batch_wait,
                )
            )

    def _events_by_api(
        self, events: Iterable[tuple[str, str]], listener: Callable[..., Any], *, is_batch: bool
    ) -> dict[str, list[str]]:
        """Return the names of the events by API. Raises InvalidEventListener for one that the listener cannot take."""
        if not callable(listener):
            raise InvalidEventListener(f"{listener!r} cannot listen: it is not callable. Pass the function itself.")
        handler = _handler(listener, is_batch=is_batch)
        by_api: dict[str, list[str]] = {}
        for api_name, name in _pairs(events):
            self._check_event(api_name, name, handler)
            by_api.setdefault(api_name, []).append(name)
        if not by_api:
            raise NothingToListenFor(f"{listener} was given no event to listen for. Pass (api name, event name) pairs.")
        return by_api

    def _add(self, listener: Listener) -> None:
        if any(other.api == listener.api and other.name == listener.name for other in self.listeners):
            raise DuplicateListenerName(
                f"The API '{listener.api}' has a listener named '{listener.name}' already. The name is what tells "
                "consumer groups apart: pass another listener_name."
            )
        twin = next((o for o in self.listeners if o.api == listener.api and o.group == listener.group), None)
        if twin is not None and listener.group is not None:
            raise DuplicateListenerName(
                f"The listeners '{twin.name}' and '{listener.name}' of the API '{listener.api}' are given one group, "
                f"'{listener.group}': each event goes to one member of a group, so each of them would miss what the "
                "other is given. Leave `group` out, or give each its own."
            )
        self.listeners.append(listener)
        try:
            self._workers.change(lambda worker: worker.add_listener(listener))
        except Exception:  # so that it can be declared again
            self.listeners.remove(listener)
            raise

    def _check_event(self, api_name: str, name: str, handler: Handler | BatchHandler) -> None:
        api = self._apis.find(api_name)
        if api is None or name == "*":
            return
        signature = api.get_event(name).signature
        names = [parameter.name for parameter in signature.parameters]
        if signature.wildcard is None and handler.is_certain and (lacking := handler.lacking(names)):
            raise InvalidEventListener(
                f"{handler.name} wants an argument '{lacking[0]}', which {api_name}.{name} does not have."
                f"{did_you_mean(lacking[0], names)} It is declared as {signature.describe()}."
            )

    def _check_group(self, name: str) -> None:
        default = self._config.default_name
        if default is not None and not default.says_something and "{" not in name:
            raise InvalidEventListener(
                f"The listener {name} needs a service name: this program's would be '{default.name}', which another "
                "service may have, too, and then each would get half of the events. "
                "Write lightbus.create(service_name='...'), or set LIGHTBUS_SERVICE_NAME."
            )


def _pairs(events: Iterable[Any]) -> list[tuple[str, str]]:
    pairs: list[Any] = [events] if isinstance(events, str) else list(events)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or [*map(type, pair)] != [str, str]:
            raise InvalidEventListener(f"{pair!r:.100} is no event: give each as (api name, event name).")
    return pairs


def _checked_name(listener: Callable[..., Any], name: Any) -> str:
    chosen: Any = _name_of(listener) if name is None else name
    if not isinstance(chosen, str) or not chosen.strip():
        raise InvalidEventListener(f"listener_name is {chosen!r}. It is a text that tells this listener from others.")
    _check_text("listener_name" if name is not None else "the name", chosen)
    return chosen


def _check_text(what: str, text: str) -> None:
    """Raise InvalidEventListener for a text that publishers would refuse: too long, or not printable."""
    most = field_types.MAX_NAME
    if len(text) > most or not text.isprintable():
        why = f"{len(text)} characters long; {most} is the most" if text.isprintable() else "not printable"
        raise InvalidEventListener(
            f"{what} of a listener, {text!r:.100}, is {why}. Pass another listener_name or group."
        )


def _check_lambda(name: str, *, is_named: bool) -> None:
    if not is_named and name.endswith("<lambda>"):
        raise InvalidEventListener(
            f"The listener {name} is a lambda, and has no name of its own for its consumer group: another lambda there "
            "would take its events over. Pass listener_name='...', or a function with a name; with group=None it "
            "needs none."
        )


def _group(template: Any, name: str) -> str:
    """Return a group with the listener's name filled in; the service's name is filled in when the process runs."""
    if not isinstance(template, str) or not template.strip():
        raise InvalidEventListener(
            f"group of the listener {name} is {template!r:.100}. It is a text that may have the placeholders "
            "{service_name} and {listener_name}, or None: then each process is given every event."
        )
    group = template.replace("{listener_name}", name)
    _check_text("the group", group.replace("{service_name}", LONGEST_SERVICE))
    if "{" in group.replace("{service_name}", ""):
        raise InvalidEventListener(
            f"group of the listener {name} is {template!r:.100}. Its placeholders are {{service_name}} and "
            "{listener_name}: a group is what several processes share. With group=None each is given every event."
        )
    return group


def _check_number(what: str, value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidEventListener(f"{what} of the listener {name} is {value!r:.100}. It is a whole number above 0.")


def _since(options: BusOptions | None, name: str) -> Any:
    """Return where a new group begins, from the options; None: at its creation."""
    if options is None:
        return None
    check_options(options, LISTEN_OPTIONS, f"the listener {name}")
    since = options.get("since")
    try:
        if isinstance(since, str):
            return moment(since)
        if since is None or (isinstance(since, datetime) and fields.since(since)):
            return since
        raise ValueError
    except ValueError:
        raise InvalidEventListener(
            f"since of the listener {name} is {since!r:.100}. It is the id of an event, a datetime or the text of one "
            '("2026-01-31 12:00"), "0" (everything that is kept) or "$" (what comes from now on).'
        ) from None


def moment(text: str) -> str | datetime:
    """Parse a `since` option: `"0"`, `"$"`, an event's id or a time. Raises ValueError for any other text."""
    if text in ("0", "$") or _ID.fullmatch(text):
        return text
    when = datetime.fromisoformat(text)
    if not fields.since(when):
        raise ValueError
    return when.astimezone()


def _policy(on_error: OnError | str | None, name: str) -> OnError:
    if on_error is None:
        return OnError.STOP_LISTENER
    try:
        return OnError(on_error)
    except ValueError:
        known = ", ".join(f"OnError.{policy.name}" for policy in OnError)
        raise InvalidEventListener(f"on_error of the listener {name} is {on_error!r}. There are: {known}.") from None


def _check_batch(batch: Any, wait: Any, name: str) -> None:
    if batch is not None:
        _check_number("batch", batch, name)
        if batch > MAX_BATCH:
            raise InvalidEventListener(f"batch of the listener {name} is {batch!r:.100}. It is {MAX_BATCH} at most.")
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait <= MAX_BATCH_WAIT:
        raise InvalidEventListener(
            f"batch_wait of the listener {name} is {wait!r:.100}. It is a number of seconds, up to {MAX_BATCH_WAIT:g}."
        )


def _handler(listener: Callable[..., Any], *, is_batch: bool) -> Handler | BatchHandler:
    name = _name_of(listener)
    if is_generator(listener):
        raise InvalidEventListener(
            f"The listener {name} has a `yield` in it, so that calling it runs nothing of it. "
            "Write it as a plain function."
        )
    try:
        return BatchHandler(listener, name=name) if is_batch else Handler(listener, name=name, casts=False)
    except InvalidDeclaration as error:
        raise InvalidEventListener(str(error)) from None


def _name_of(listener: Callable[..., Any]) -> str:
    while isinstance(listener, partial):
        listener = listener.func
    named = listener if hasattr(listener, "__qualname__") else type(listener)
    return f"{named.__module__}.{named.__qualname__}"
