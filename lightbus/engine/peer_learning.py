"""What a worker learns from other workers: the groups that its events are kept for, and schemas of its listeners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..core.registry import Fact, Peer, PeerJoined
from ..events.groups.group_directory import GroupDirectory
from ..events.listening.group_pages import read_groups
from ..events.listening.listener_schema_check import ListenerSchemaCheck
from ..exceptions import LightbusException
from ..listener import Listener
from ..service.schema import Schema
from .engine import Engine
from .events_api import EventsApi, group_of_wire
from .internal_calls import ask
from .peer_api import PeerApi

__all__ = ["PeerLearner"]

logger = logging.getLogger("lightbus.worker")


class PeerLearner:
    """
    Asks peers that join. Only touched from the node's loop.

    Args:
        engine: the owner of the channels.
        groups: records the groups.
        schema: the APIs that are registered or loaded here.
        published: returns the APIs whose events are published here.

    """

    def __init__(
        self, engine: Engine, groups: GroupDirectory, schema: Schema, published: Callable[[], set[str]]
    ) -> None:
        self._engine = engine
        self._groups = groups
        self._published = published
        self._fitting = ListenerSchemaCheck(schema, self._ask_schema)
        self._listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def add_listener(self, listener: Listener, publishers: Sequence[Peer]) -> None:
        """Check whether the events of these publishers, and of those that join later, fit a listener."""
        self._listeners.append(listener)
        self._learn(self._fitting.check([listener], publishers))

    def observe(self, facts: Sequence[Fact]) -> None:
        """Ask the peers that joined."""
        for fact in facts:
            if isinstance(fact, PeerJoined):
                self._joined(fact.peer)

    def stop(self) -> None:
        """Stop asking peers."""
        for task in self._tasks:
            task.cancel()

    def _joined(self, peer: Peer) -> None:
        shared = self._published().intersection(peer.announcement.api_names or ())
        if peer.instance != self._engine.identity.instance:
            for api in shared:
                self._learn(self._learn_groups(peer, api))
        if self._listeners:
            self._learn(self._fitting.check(self._listeners, [peer]))

    async def _learn_groups(self, peer: Peer, api: str) -> None:
        """Ask another publisher of our events for its groups: events fired here are kept for these groups, too."""
        try:
            is_near = peer.announcement.host == self._engine.identity.host
            for value in await read_groups(
                lambda which: ask(self._engine, peer, EventsApi.Meta.name, "groups", {"api": api, **which})
            ):
                self._groups.merge(group_of_wire(value, is_near=is_near), is_near=is_near)
        except (LightbusException, TypeError, ValueError) as error:
            logger.debug("%s does not report which groups it knows: %s", peer.announcement, error)

    async def _ask_schema(self, peer: Peer, api: str) -> Any:
        return await ask(self._engine, peer, PeerApi.Meta.name, "schema", {"api": api})

    def _learn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
