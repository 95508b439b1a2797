"""Schemas of APIs from the bus, from a bus module or from files, with the docstrings of their procedures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...exceptions import InvalidSchema, UnsupportedUse
from ...path import BusPath
from ...service.description import describe_api
from ...service.schema import Schema
from ...typing import JsonSchema
from ..support.catalogue import served_apis
from ..support.connection import Connection

__all__ = ["save", "schemas_of_files", "schemas_of_module", "schemas_on_bus"]


async def schemas_on_bus(bus: Connection) -> dict[str, JsonSchema]:
    """Return the schemas of all APIs on the bus; of several versions the latest, with a note on standard error."""
    found: dict[str, JsonSchema] = {}
    for api in served_apis(await bus.look_around()):
        if api.is_internal:
            continue
        latest = api.peers[0]
        if api.is_mixed:
            bus.output.note(
                f"The peers of {api.name} do not all serve the same: that of {latest.announcement} is taken."
            )
        schema = _checked(api.name, await bus.ask(latest, "schema", api=api.name))
        described = await bus.told(latest, "describe", api=api.name)
        found[api.name] = _with_docs(schema, described.get("procedures", ()))
    return found


def schemas_of_module(bus: BusPath) -> dict[str, JsonSchema]:
    """Return the schemas of the APIs that a bus module has registered or loaded."""
    found = {name: bus.schema.get_api_schema(name) for name in bus.schema.api_names}
    for api in bus.client.api_registry.all():
        if api.meta.name in found:
            found[api.meta.name] = _with_docs(found[api.meta.name], describe_api(api)["procedures"])
    return {name: schema for name, schema in found.items() if not name.startswith("internal.")}


def schemas_of_files(path: Path) -> dict[str, JsonSchema]:
    """Return what is in a file or a directory that `dumpschema` wrote. Raises UnsupportedUse where there is nothing."""
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
    """Return what a peer said, where it is a schema. Raises InvalidSchema."""
    known = Schema()
    known.add_foreign(name, schema)
    return known.get_api_schema(name)


def _with_docs(schema: JsonSchema, procedures: Iterable[Any]) -> JsonSchema:
    """Return a schema with what the docstrings say, as the description of the parameters."""
    docs = {each.get("name"): each.get("doc") for each in procedures if isinstance(each, dict)}
    rpcs = {
        name: {**parts, "parameters": {**parts["parameters"], "description": docs[name]}}
        if docs.get(name) and isinstance(parts["parameters"], dict)
        else parts
        for name, parts in schema["rpcs"].items()
    }
    return {**schema, "rpcs": rpcs}
