"""Past events, and the lag of listeners: read from all publishers of an API, and merged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from ..blocking import forbid_in_loop
from ..config import Config
from ..deadline import Deadline
from ..events.newest import MAX_HISTORY, newest_of
from ..exceptions import InvalidParameters, UnknownListener
from ..listener import Listener
from ..message import EventMessage
from ..wire.event_names import declared_event
from .calling import Calling
from .engine_holder import EngineHolder
from .firing import check_remote_event

__all__ = ["History"]

logger = logging.getLogger("lightbus.client")

EVENTS_API = "internal.events"


class History:
    """
    The part of a client that reads past events and the lag of listeners.

    Args:
        config: the settings.
        engines: knows the publishers, and the service of this process.
        calling: calls the publishers.
        listeners: the listeners declared here, whose groups may have custom names.

    """

    def __init__(self, config: Config, engines: EngineHolder, calling: Calling, listeners: Sequence[Listener]) -> None:
        self._config = config
        self._engines = engines
        self._calling = calling
        self._listeners = listeners

    def history(
        self,
        api_name: str,
        name: str,
        start: datetime | float | None = None,
        stop: datetime | float | None = None,
        *,
        limit: int = 1000,
    ) -> list[EventMessage]:
        """
        Return the newest `limit` events between two times, oldest first.

        It asks all publishers, including those that this process does not know yet (see `discovery.wait`), and logs a
        warning about a known publisher that does not answer.

        Raises EventNotFound, InvalidParameters for an invalid limit, and what a call raises.
        """
        forbid_in_loop(f"bus.{api_name}.{name}.history()", f"bus.{api_name}.{name}.history_async()")
        question = _question(api_name, name, start, stop, limit)
        answers = [
            self._calling.call_blocking(EVENTS_API, "history", question, {"peer": peer})
            for peer in self._publishers(api_name, name)
        ]
        return _messages(answers, limit)

    async def history_async(
        self,
        api_name: str,
        name: str,
        start: datetime | float | None = None,
        stop: datetime | float | None = None,
        *,
        limit: int = 1000,
    ) -> list[EventMessage]:
        """Return, on an event loop, what `history` returns."""
        question = _question(api_name, name, start, stop, limit)
        peers = await self._publishers_async(api_name, name)
        calls = (self._calling.call(EVENTS_API, "history", question, {"peer": peer}) for peer in peers)
        return _messages(await asyncio.gather(*calls), limit)

    def lag(self, api_name: str, listener_name: str, name: str = "*") -> int:
        """
        Return how many events a listener of this service has not handled yet, over all events that it listens to.

        `name` is an event of the API that must exist, or `"*"`. Raises UnknownListener, EventNotFound.
        """
        forbid_in_loop(f"bus.{api_name}.{name}.lag()", f"bus.{api_name}.{name}.lag_async()")
        question = {"api": api_name, "group": self._group_named(api_name, listener_name)}
        peers = self._publishers(api_name, name)
        answers = [self._calling.call_blocking(EVENTS_API, "lag", question, {"peer": peer}) for peer in peers]
        return _sum(answers, question["group"], api_name)

    async def lag_async(self, api_name: str, listener_name: str, name: str = "*") -> int:
        """Return, on an event loop, how many events a listener of this service has not handled yet."""
        question = {"api": api_name, "group": self._group_named(api_name, listener_name)}
        peers = await self._publishers_async(api_name, name)
        calls = (self._calling.call(EVENTS_API, "lag", question, {"peer": peer}) for peer in peers)
        return _sum(await asyncio.gather(*calls), question["group"], api_name)

    def _group_named(self, api_name: str, listener_name: str) -> str:
        """Return the group of a listener by its name, whether it is declared here or elsewhere in this service."""
        service = self._engines.engine.identity.service
        for listener in self._listeners:
            if listener.api == api_name and listener.name == listener_name:
                return listener.group_of(service)
        return f"{service}-{listener_name}"

    def _publishers(self, api_name: str, name: str) -> list[str]:
        deadline = Deadline.after(self._config.api(api_name).rpc_timeout)
        self._engines.engine.questions.resolve_all_blocking(api_name, deadline)
        return self._instances(api_name, name)

    async def _publishers_async(self, api_name: str, name: str) -> list[str]:
        await self._engines.engine.questions.resolve_all(
            api_name, Deadline.after(self._config.api(api_name).rpc_timeout)
        )
        return self._instances(api_name, name)

    def _instances(self, api_name: str, name: str) -> list[str]:
        """Return the instances to ask; log a warning about publishers that may have events but are unreachable."""
        snapshot = self._engines.engine.snapshot
        if name != "*":
            check_remote_event(snapshot, api_name, name)
        if silent := snapshot.announced.get(api_name, ()):
            logger.warning(
                "The history of %s is not complete: %s %s not answer, and may have more events. Ask again once "
                "they are back, or another process of their service has taken over",
                api_name,
                ", ".join(map(str, silent)),
                "does" if len(silent) == 1 else "do",
            )
        return [peer.instance for peer in snapshot.publishers(api_name)]


def _question(
    api: str, event: str, start: datetime | float | None, stop: datetime | float | None, limit: Any
) -> dict[str, Any]:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_HISTORY:
        raise InvalidParameters(
            f"limit of the history of {api}.{event} is {limit!r:.100}. It is a whole number from 1 to {MAX_HISTORY}; "
            "ask for what is older with stop=, the time of the oldest event that you have."
        )
    between = {"start": _seconds(start, "start", f"{api}.{event}"), "stop": _seconds(stop, "stop", f"{api}.{event}")}
    return {"api": api, "event": event, **between, "limit": limit}


def _seconds(when: Any, which: str, what: str) -> float | None:
    if isinstance(when, datetime):
        return when.timestamp()
    if when is not None and (isinstance(when, bool) or not isinstance(when, (int, float))):
        raise InvalidParameters(
            f"{which} of the history of {what} is {when!r:.100}. It is a datetime, or seconds since 1970."
        )
    return when


def _messages(answers: Iterable[list[dict[str, Any]]], limit: int) -> list[EventMessage]:
    by_journal: dict[str, list[dict[str, Any]]] = {}
    for each in chain(*answers):
        by_journal.setdefault(each["native_id"].rpartition("-")[0], []).append(each)
    found = newest_of(list(by_journal.values()), limit)
    return [
        EventMessage(
            api_name=each["api"],
            event_name=declared_event(each["event"]),
            kwargs=each["kwargs"],
            version=each["version"],
            id=each["id"],
            native_id=each["native_id"],
            published_at=each["published_at"],
        )
        for each in found
    ]


def _sum(answers: Iterable[int | None], group: str, api_name: str) -> int:
    known = [answer for answer in answers if answer is not None]
    if not known:
        raise UnknownListener(
            f"No publisher of '{api_name}' knows the group '{group}'. Did its worker ever run? "
            "`lightbus groups list` shows all groups."
        )
    return sum(known)
