"""Warns of listeners whose arguments an event does not have, as soon as the schema of that event is known.

If the API is registered when a listener is declared, that is an error there. All other schemas, loaded ones and those
of peers, are known only when the worker runs: then it is a warning, since no peer may keep a worker from starting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ...core.peers import Peer
from ...exceptions import InvalidDeclaration, LightbusException, did_you_mean
from ...listener import Listener
from ...service.handlers import Handler
from ...service.schema import Schema

__all__ = ["ListenerSchemaCheck"]

logger = logging.getLogger("lightbus.listeners")

MAX_WARNINGS = 1000
"""Most warnings, and requests for schemas: a peer may announce ever new schemas."""


class ListenerSchemaCheck:
    """
    Compares listeners with the schemas of their events. Only touched from the node's loop.

    Args:
        schema: the schemas that are registered or loaded here.
        ask: asks a peer for the schema of one of its APIs.

    """

    def __init__(self, schema: Schema, ask: Callable[[Peer, str], Awaitable[Any]]) -> None:
        self._schema = schema
        self._ask = ask
        self._asked: dict[tuple[str, str], asyncio.Future[dict[str, list[str]]]] = {}
        """By API and schema digest: the events that a peer reports, requested once for all listeners."""
        self._warned: set[tuple[str, str, str, str]] = set()

    async def check(self, listeners: Iterable[Listener], peers: Iterable[Peer]) -> None:
        """Warn of listeners that need arguments that their events do not have."""
        peers = list(peers)
        for listener in listeners:
            if listener.batch or listener.takes_raw:
                continue  # any event fits it
            if self._schema.knows(listener.api):
                self._compare(listener, _events(self._schema.get_api_schema(listener.api)), "this process")
                continue
            for peer in peers:
                if listener.api in (peer.announcement.api_names or ()):
                    self._compare(listener, await self._events_of(peer, listener.api), str(peer.announcement))

    async def _events_of(self, peer: Peer, api: str) -> dict[str, list[str]]:
        info = next((info for info in peer.announcement.apis or () if info.name == api), None)
        key = api, peer.instance if info is None else info.digest
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= MAX_WARNINGS:
                return {}
            asked = self._asked[key] = asyncio.ensure_future(self._ask_events(peer, api, key))
        return await asyncio.shield(asked)  # cancelling one waiter must not cancel it for others

    async def _ask_events(self, peer: Peer, api: str, key: tuple[str, str]) -> dict[str, list[str]]:
        try:
            return _events(await self._ask(peer, api))
        except LightbusException as error:
            del self._asked[key]  # the next one asks again
            logger.debug("%s does not report the schema of %s: %s", peer.announcement, api, error)
            return {}

    def _compare(self, listener: Listener, events: dict[str, list[str]], where: str) -> None:
        try:
            handler = Handler(listener.function, name=listener.name, casts=False)
        except InvalidDeclaration:
            return  # refused when it was declared
        for event in events if "*" in listener.events else listener.events:
            names = events.get(event)
            if names is None or not (lacking := handler.lacking(names)):
                continue
            key = listener.name, listener.api, event, lacking[0]
            if key not in self._warned and len(self._warned) < MAX_WARNINGS:
                self._warned.add(key)
                logger.warning(
                    "The listener %s wants the argument '%s', and %s.%s of %s does not have it.%s It has: %s. %s",
                    listener.name, lacking[0], listener.api, event, where, did_you_mean(lacking[0], names),
                    ", ".join(names) or "none",
                    "Each such event will be a dead letter (lightbus dead list)." if handler.is_certain
                    else "Unless a decorator gives it, each such event will be a dead letter (lightbus dead list).",
                )  # fmt: skip


def _events(schema: Any) -> dict[str, list[str]]:
    """Return the names of the arguments of each event whose schema lists all of them."""
    found = {}
    try:
        for event, parts in schema["events"].items():
            parameters = parts["parameters"]
            if parameters.get("additionalProperties") is False:
                found[str(event)] = [str(name) for name in parameters["properties"]]
    except (AttributeError, KeyError, TypeError):
        pass  # not a schema as we know it
    return found
