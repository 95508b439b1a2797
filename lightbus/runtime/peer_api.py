"""What every worker answers about itself, as ordinary calls of an internal API: other tools can use it, too.

Ask one particular peer with `bus_options={"peer": instance id}`.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from ..service.api import Api, ApiRegistry
from ..service.schema import Schema
from .engine import Engine

__all__ = ["PeerApi"]


class Described(Protocol):
    """What is described: the client."""

    api_registry: ApiRegistry
    schema: Schema

    @property
    def engine(self) -> Engine:
        """The engine."""

    @property
    def listeners(self) -> list[Any]:
        """The listeners."""


class PeerApi(Api):
    """`internal.peer`."""

    class Meta:
        name = "internal.peer"
        internal = True

    def __init__(self, client: Described) -> None:
        self._client = client
        self._started_at = time.time()

    async def ping(self) -> float:
        """Return the worker's wall clock, in seconds since 1970."""
        return time.time()

    async def info(self) -> dict[str, Any]:
        """Return who this is, what it listens to and since when it runs (seconds since 1970)."""
        me = self._client.engine.identity
        return {
            "bus": me.bus,
            "instance": me.instance,
            "service": me.service,
            "process": me.process,
            "host": me.host,
            "pid": me.pid,
            "started_at": self._started_at,
            "listeners": [
                {"api": listener.api, "events": list(listener.events), "name": listener.name}
                for listener in self._client.listeners
            ],
        }

    async def schema(self, api: str) -> dict[str, Any]:
        """Return the schemas of an API, in the form that `lightbus dumpschema` writes."""
        return self._client.schema.get_api_schema(api)
