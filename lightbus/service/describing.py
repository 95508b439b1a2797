"""JSON Schemas of values by name, assembled from those of their annotations: each annotation is compiled once.

A thousand procedures mostly take the same few types, and compiling a set of annotations takes milliseconds. The result
equals that of compiling all annotations together. If it might differ (two classes of one name, which then get longer
names), or an annotation cannot be compiled, it is None, and the caller compiles them together.
"""

from __future__ import annotations

import copy
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from ..typing import JsonSchema
from .from_wire import parts_of, validator_of
from .json_forms import json_schema_of

__all__ = ["described"]

CoreOf: TypeAlias = Callable[[Mapping[str, Any]], Any]

_VALUE = "its value"
_HOLDER = "Values"
_CONTAINERS = (list, tuple, dict, set, frozenset, Union, types.UnionType)
_IN_REF = re.compile(r"(?:[^\[\],.]*\.)*([^\[\],.:]+):\d+")
_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class _KeptDescription:
    annotation: Any
    """Kept alive, so that the ids in the cache key stay valid."""
    schema: JsonSchema
    definitions: JsonSchema
    refs: frozenset[str]
    """Pydantic's references to the classes in it, each with its id."""


_described: dict[Any, _KeptDescription] = {}
"""Descriptions by `_key` of the annotation. Cleared when it is full."""


def described(annotations: Mapping[str, Any], core_of: CoreOf) -> JsonSchema | None:
    """
    Return the JSON Schema of an object with these values, or None if they must be compiled together.

    Arguments:
        annotations: the annotations of the values, by name.
        core_of: returns the core schema of values.

    """
    try:
        parts = {name: _one(annotation, core_of) for name, annotation in annotations.items()}
    except Exception:  # compiling them together raises the same error, which is reported there
        return None
    refs = frozenset().union(*(part.refs for part in parts.values()))
    if len({_HOLDER, *map(_short, refs)}) <= len(refs):
        return None
    definitions = {name: each for part in parts.values() for name, each in part.definitions.items()}
    return {
        "properties": {name: copy.deepcopy(part.schema) for name, part in parts.items()},
        **({"$defs": dict(sorted(definitions.items()))} if definitions else {}),
    }


def _one(annotation: Any, core_of: CoreOf) -> _KeptDescription:
    key = _key(annotation)
    known = _described.get(key)
    if known is None:
        known = _compiled(annotation, core_of)
        if len(_described) >= _KEPT:
            _described.clear()
        _described[key] = known
    return known


def _compiled(annotation: Any, core_of: CoreOf) -> _KeptDescription:
    core = core_of({_VALUE: annotation})
    validator_of(core)  # raises here, and not at the first call
    schema = json_schema_of(core)
    holder = core.get("ref") or core["schema"]["ref"]
    refs = frozenset(_refs(core)) - {holder}
    return _KeptDescription(annotation, schema.get("properties", {}).get(_VALUE, {}), schema.get("$defs", {}), refs)


def _key(annotation: Any) -> Any:
    """Return a key that only the same annotation has: `int | str` equals `str | int`, but has another description."""
    origin = typing.get_origin(annotation)
    if origin not in _CONTAINERS:
        return id(annotation)
    return (type(annotation), id(origin), *(_key(each) for each in annotation.__args__))


def _refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict) and isinstance(schema.get("ref"), str):
        yield schema["ref"]
    for part in parts_of(schema):
        yield from _refs(part)


def _short(ref: str) -> str:
    """Return the name of a class in descriptions, if no other class has it."""
    return _IN_REF.sub(r"\1", ref)
