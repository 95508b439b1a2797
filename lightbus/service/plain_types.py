"""The JSON Schemas of builtin types, and of lists, dicts and unions of them: most annotations need no more.

They equal those of pydantic, which is imported for anything else: it costs a worker 10 MB of memory.
"""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Union

from ..typing import JsonSchema

__all__ = ["plain_schema", "plain_schemas"]

_SCALARS: dict[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"format": "binary", "type": "string"},
    None: {"type": "null"},
    type(None): {"type": "null"},
}

_CONTAINERS: dict[Any, JsonSchema] = {
    list: {"items": {}, "type": "array"},
    dict: {"additionalProperties": True, "type": "object"},
}


def plain_schemas(annotations: Mapping[str, Any]) -> dict[str, JsonSchema] | None:
    """Return the JSON Schemas of values by name; None if not all are of builtin types."""
    found = {name: plain_schema(annotation) for name, annotation in annotations.items()}
    plain = {name: schema for name, schema in found.items() if schema is not None}
    return plain if len(plain) == len(found) else None


def plain_schema(annotation: Any) -> JsonSchema | None:
    """Return the JSON Schema of an annotation; None if it is not a builtin type, or not made of them."""
    if annotation is Any:
        return {}
    if annotation is None or (isinstance(annotation, type) and not typing.get_args(annotation)):
        known = _SCALARS.get(annotation) or _CONTAINERS.get(annotation)
        return copy.deepcopy(known)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list and len(arguments) == 1:
        items = plain_schema(arguments[0])
        return None if items is None else {"items": items, "type": "array"}
    if origin is dict and len(arguments) == 2 and arguments[0] is str:
        values = plain_schema(arguments[1])
        return None if values is None else {"additionalProperties": values or True, "type": "object"}
    if origin in (Union, types.UnionType):
        return _any_of(plain_schema(each) for each in sorted(arguments, key=lambda each: each is type(None)))
    return None


def _any_of(schemas: Iterable[JsonSchema | None]) -> JsonSchema | None:
    choices: list[JsonSchema] = []
    for schema in schemas:
        if not schema:  # a choice that accepts anything
            return None
        if schema not in choices:
            choices.append(schema)
    return {"anyOf": choices} if len(choices) > 1 else choices[0]
