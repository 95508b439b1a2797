"""The names on the bus: the APIs, their members, and their schemas."""

from __future__ import annotations

import time

from ..blocking import forbid_in_loop
from ..config import Config
from ..deadline import Deadline
from ..exceptions import InvalidName, LightbusTimeout
from ..service.schema import Schema
from ..typing import JsonSchema
from .calling import Calling
from .engine_holder import EngineHolder
from .registration import Registration

__all__ = ["Names"]


class Names:
    """
    The part of a client that knows the APIs on the bus; it asks peers for the schemas that this process lacks.

    Args:
        config: the settings.
        engines: knows the peers of the bus.
        registration: the APIs registered here, and the schemas registered or loaded.
        calling: calls peers for their schemas.

    """

    def __init__(self, config: Config, engines: EngineHolder, registration: Registration, calling: Calling) -> None:
        self._config = config
        self._engines = engines
        self._registration = registration
        self._calling = calling
        self._peers_schema = Schema()
        self._asked: dict[str, tuple[str, float]] = {}
        """Per API whose schema came from a peer: the schema's digest, and when its cache entry expires."""

    def parameter_schema(self, api_name: str, name: str) -> JsonSchema:
        """Return the schema of a procedure's or an event's arguments, from a peer if it is not known here."""
        schema = self.schema_of(api_name, f"{name}.parameter_schema")
        if (api_name, name) in schema.events:
            return _part(schema.get_event_schema(api_name, name), "parameters")
        return _part(schema.get_rpc_schema(api_name, name), "parameters")

    def response_schema(self, api_name: str, name: str) -> JsonSchema | None:
        """Return the schema of a procedure's result, from a peer if it is not known here."""
        schema = self.schema_of(api_name, f"{name}.response_schema")
        if (api_name, name) in schema.events:
            return None
        found = schema.get_rpc_schema(api_name, name).get("response")
        return found if isinstance(found, dict) else None

    def schema_of(self, api_name: str, what_for: str) -> Schema:
        """
        Return a Schema that has `api_name`, fetched from a peer if the API is neither registered nor loaded here.

        Raises UnknownApi, and CannotBlockHere where an event loop would have to wait (`what_for` is the expression that
        the message says to run in a thread).
        """
        if self._registration.schema.knows(api_name):
            return self._registration.schema
        engine = self._engines.engine
        deadline = Deadline.after(self._config.api(api_name).rpc_timeout)
        while not (peers := engine.snapshot.by_api.get(api_name)):  # what was found may have left at once
            self._refuse_on_loop(api_name, what_for)
            self._engines.channel.resolve(api_name, deadline)
        peer = peers[0]
        digest = next((api.digest for api in peer.announcement.apis or () if api.name == api_name), "")
        known_as, until = self._asked.get(api_name, ("", 0.0))
        if known_as != digest or until < time.monotonic():
            self._refuse_on_loop(api_name, what_for)
            found = self._calling.call_blocking("internal.peer", "schema", {"api": api_name}, {"peer": peer.instance})
            self._peers_schema.add_foreign(api_name, found)
            self._asked[api_name] = digest, time.monotonic() + self._config.bus.options.ttl
        return self._peers_schema

    def _refuse_on_loop(self, api_name: str, what_for: str) -> None:
        forbid_in_loop(
            f"Asking a peer for the schema of '{api_name}'", f"asyncio.to_thread(lambda: bus.{api_name}.{what_for})"
        )

    def completions(self, parts: tuple[str, ...]) -> list[str]:
        """Return the names that can follow `parts` in a path, from the APIs registered here and on the bus."""
        names: set[str] = set()
        for api in self._registration.apis.all():
            names.update(f"{api.meta.name}.{member}" for member in (*api.procedures, *api.events))
        engine = self._engines.opened
        if engine is not None:
            for peer in engine.snapshot.peers.values():
                names.update(peer.announcement.api_names or ())  # the only names of a peer before a connection to it
                for info in peer.announcement.apis or ():
                    names.update(f"{info.name}.{member}" for member in (*info.procedures, *info.events))
        depth = len(parts)
        split = (tuple(name.split(".")) for name in names if not name.startswith("internal."))
        return sorted({name[depth] for name in split if len(name) > depth and name[:depth] == parts})

    def wait_for_apis(self, *names: str, timeout: float = 5.0) -> None:
        """Return when each of these APIs is advertised by a peer that is up. Raises LightbusTimeout."""
        forbid_in_loop("wait_for_apis()", "bus.client.wait_for_apis_async()")
        _check_names(names)
        engine = self._engines.engine
        deadline = Deadline.after(timeout)
        missing = engine.questions.wait_for_blocking(names, deadline)
        self._check_none_missing(missing, timeout)

    async def wait_for_apis_async(self, *names: str, timeout: float = 5.0) -> None:
        """Wait, on an event loop, until each of these APIs is advertised. Raises LightbusTimeout."""
        _check_names(names)
        deadline = Deadline.after(timeout)
        missing = await self._engines.engine.questions.wait_for(names, deadline)
        self._check_none_missing(missing, timeout)

    def _check_none_missing(self, missing: list[str], timeout: float) -> None:
        if missing:
            there = ", ".join(self._engines.engine.snapshot.api_names()) or "nothing"
            raise LightbusTimeout(f"Within {timeout} s no peer advertised {', '.join(missing)}. Advertised: {there}.")


def _part(schema: JsonSchema, part: str) -> JsonSchema:
    found: JsonSchema = schema[part]
    return found


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidName(
                f"{name!r:.100} is not the name of an API. Give each by itself: wait_for_apis('auth', 'shop')."
            )
