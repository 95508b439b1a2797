"""Collect schemas of APIs from the bus, a bus module or files, with the docstrings of their procedures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.peers import Peer
from ...exceptions import InvalidSchema, LightbusException, LightbusTimeout, UnknownApi, UnsupportedUse
from ...path import BusPath
from ...service.description import describe_api
from ...service.schema import Schema
from ...typing import JsonSchema
from ..support.catalogue import ServedApi, served_apis, unanswered_apis
from ..support.connection import Connection, first_answer
from ..support.output import listed

__all__ = [
    "DescribedApi",
    "described_of_files",
    "described_of_module",
    "described_on_bus",
    "save",
    "schemas_of_files",
    "schemas_of_module",
    "schemas_on_bus",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedApi:
    """
    An API with its documentation.

    Attributes:
        name: the name of the API.
        schema: its schema, with docstrings as the descriptions of parameters.
        version: the version of its class; None if only the schema is known.
        doc: the docstring of its class.
        events: event name -> its fields beside the schema: `version`, `key`, `delivery`.
        services: the services that serve it.

    """

    name: str
    schema: JsonSchema
    version: int | None = None
    doc: str = ""
    events: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    services: tuple[str, ...] = ()


async def schemas_on_bus(bus: Connection) -> dict[str, JsonSchema]:
    """Return the schemas of all APIs on the bus; of several versions the latest, with a note on standard error."""
    return {name: api.schema for name, api in (await described_on_bus(bus)).items()}


async def described_on_bus(
    bus: Connection,
    *,
    is_wanted: Callable[[str], bool] = lambda name: True,
    on_failure: Callable[[str, LightbusException], None] | None = None,
) -> dict[str, DescribedApi]:
    """
    Return the wanted APIs on the bus; of several versions the latest, with a note on standard error.

    Args:
        bus: the bus.
        is_wanted: tells by its name whether an API is wanted.
        on_failure: called with an API, which is left out, and the error, if none of its peers answers with a valid
            schema. By default the error is raised.

    """
    known = await bus.discover_all()
    for name, silent in unanswered_apis(known).items():
        if is_wanted(name):
            bus.output.note(f"{name} is left out: {listed(str(peer.announcement) for peer in silent)} does not answer.")
    served = [api for api in served_apis(known) if not api.is_internal and is_wanted(api.name)]
    for api in served:
        if api.is_mixed:
            bus.output.note(
                f"The peers of {api.name} do not all serve the same: that of {api.peers[0].announcement} is taken."
            )
    peers = _AskedPeers(bus)
    answers = await asyncio.gather(*map(peers.described, served), return_exceptions=True)
    found: dict[str, DescribedApi] = {}
    for api, answer in zip(served, answers, strict=True):
        if not isinstance(answer, BaseException):
            found[api.name] = answer
        elif on_failure is None or not isinstance(answer, LightbusException):
            raise answer
        else:
            on_failure(api.name, answer)
    return found


class _AskedPeers:
    """
    Asks peers for descriptions of APIs: all at the same time, each for one after the other.

    A peer that does not answer is not asked again, so that one that hangs costs its timeout once and not for each API.
    """

    def __init__(self, bus: Connection) -> None:
        self._bus = bus
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._silent: dict[str, LightbusException] = {}

    async def described(self, api: ServedApi) -> DescribedApi:
        """Return an API in its latest form. Raises the first error if none of its peers sends a valid schema."""
        return await first_answer(api.latest_peers, lambda peer: self._ask(peer, api))

    async def _ask(self, peer: Peer, api: ServedApi) -> DescribedApi:
        async with self._turns[peer.instance]:
            if peer.instance in self._silent:
                raise self._silent[peer.instance]
            try:
                schema = _checked(api.name, await self._bus.ask(peer, "schema", api=api.name))
            except LightbusTimeout as error:
                if not isinstance(error, UnknownApi):
                    self._silent[peer.instance] = error
                raise
            described = await self._bus.ask_or_empty(peer, "describe", api=api.name)
        return _described(api.name, schema, described, {each.announcement.service for each in api.peers})


def schemas_of_module(bus: BusPath) -> dict[str, JsonSchema]:
    """Return the schemas of the APIs that a bus module has registered or loaded."""
    return {name: api.schema for name, api in described_of_module(bus).items()}


def described_of_module(bus: BusPath) -> dict[str, DescribedApi]:
    """Return the APIs that a bus module has registered or loaded."""
    own = {api.meta.name: describe_api(api) for api in bus.client.api_registry.all()}
    service = bus.client.config.service_name
    return {
        name: _described(name, bus.schema.get_api_schema(name), own.get(name, {}), {service} if name in own else ())
        for name in bus.schema.api_names
        if not name.startswith("internal.")
    }


def described_of_files(path: Path) -> dict[str, DescribedApi]:
    """Return the APIs in a file or directory that `dumpschema` wrote. Raises what `schemas_of_files` raises."""
    return {name: DescribedApi(name=name, schema=schema) for name, schema in schemas_of_files(path).items()}


def schemas_of_files(path: Path) -> dict[str, JsonSchema]:
    """Return the schemas in a file or directory that `dumpschema` wrote. Raises UnsupportedUse if there are none."""
    if not path.exists():
        raise UnsupportedUse(f"There is no {path}. Write it with `lightbus dumpschema --out {path}`.")
    schema = Schema()
    try:
        schema.load_local(path)
    except InvalidSchema as error:
        raise UnsupportedUse(str(error)) from error
    return {name: schema.get_api_schema(name) for name in schema.api_names}


def save(schemas: Mapping[str, JsonSchema], out: Path | None, *, human_readable: bool) -> None:
    """Write schemas as `Schema.save_local` does."""
    schema = Schema(human_readable=human_readable)
    for name, each in schemas.items():
        schema.add_foreign(name, each)
    schema.save_local(out)


def _checked(name: str, schema: Any) -> JsonSchema:
    """Return the answer of a peer if it is a valid schema. Raises InvalidSchema."""
    known = Schema()
    known.add_foreign(name, schema)
    return known.get_api_schema(name)


def _described(name: str, schema: JsonSchema, described: Mapping[str, Any], services: Iterable[str]) -> DescribedApi:
    """Return an API from its schema and the answer of `describe_api`, which may be incomplete or invalid."""
    version, doc, events = described.get("version"), described.get("doc"), described.get("events")
    return DescribedApi(
        name=name,
        schema=_with_docs(schema, described.get("procedures", ())),
        version=version if isinstance(version, int) else None,
        doc=doc if isinstance(doc, str) else "",
        events={str(each.get("name")): each for each in events or () if isinstance(each, dict)},
        services=tuple(sorted(services)),
    )


def _with_docs(schema: JsonSchema, procedures: Iterable[Any]) -> JsonSchema:
    """Return a schema with the docstrings as the descriptions of the parameters."""
    docs = {each.get("name"): each.get("doc") for each in procedures if isinstance(each, dict)}
    rpcs = {
        name: {**parts, "parameters": {**parts["parameters"], "description": docs[name]}}
        if docs.get(name) and isinstance(parts["parameters"], dict)
        else parts
        for name, parts in schema["rpcs"].items()
    }
    return {**schema, "rpcs": rpcs}
