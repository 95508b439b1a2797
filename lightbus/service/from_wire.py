"""
pydantic's core schemas, made to take values as the bus carries them.

The bus carries an Enum as its value, every sequence as a list, a dataclass, a NamedTuple and a model as a dict by the
names under which they are written. pydantic, asked for Python values, takes them so only in part: not where a model
is strict, not where a field is read by another name than it is written, not an Enum of tuples. What is changed here is
that, and classes with a form of their own (`__from_bus__`); all constraints and validators stay.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, core_schema

from ..wire.codec import encode
from .texts import text_of

__all__ = ["from_wire", "names_read", "parts_of", "validator_of"]

_building = threading.Lock()

# Parts of a core schema that hold values and functions of the user's, and no schemas.
_OPAQUE = frozenset({"metadata", "serialization", "default", "default_factory", "expected", "members", "cls", "config"})

# Dicts of schemas by names of the user's: a field may be called "type", or "default".
_BY_NAME = frozenset({"fields", "choices"})

# What is something else on the wire than in Python, and so cannot be had in strict mode.
_NEVER_STRICT = frozenset(
    {
        *("enum", "tuple", "tuple-positional", "tuple-variable", "set", "frozenset", "deque", "list"),
        *("lax-or-strict", "dataclass", "model", "named-tuple", "call", "typed-dict", "dict", "counter"),
        *("ordered-dict", "fraction", "url", "multi-host-url"),
    }
)

# Kinds within which pydantic itself asks for the class of a value that it knows: Path, SecretStr, Sequence.
_OF_KNOWN_CLASSES = frozenset({"lax-or-strict", "json-or-python", "chain"})
_PARTS_OF_VALUES = frozenset({"items_schema", "keys_schema", "values_schema", "fields"})


def from_wire(schema: Any) -> Any:
    """Return a core schema that takes what the bus carries, and gives what `schema` gives."""
    return _changed(schema, {}, False)


def validator_of(schema: Any) -> SchemaValidator:
    """Return the validator of a changed schema, made again: the one of a model knows nothing of the wire."""
    build: Any = SchemaValidator
    try:
        made: SchemaValidator = build(schema, _use_prebuilt=False)
        return made
    except TypeError:  # releases before 2.13 do not ask: they take what is there of a class that is complete
        pass
    with _building:
        complete = [cls for cls in set(_classes(schema)) if vars(cls).get("__pydantic_complete__")]
        for cls in complete:
            cls.__pydantic_complete__ = False
        try:
            return SchemaValidator(schema)
        finally:
            for cls in complete:
                cls.__pydantic_complete__ = True


def _classes(schema: Any) -> Iterator[Any]:
    if isinstance(schema, dict) and schema.get("type") in ("model", "dataclass"):
        yield schema["cls"]
    for part in parts_of(schema):
        yield from _classes(part)


def parts_of(schema: Any) -> Iterable[Any]:
    """Return what a core schema has directly inside of it, schemas or not."""
    return schema.values() if isinstance(schema, dict) else schema if isinstance(schema, (list, tuple)) else ()


def names_read(field: Mapping[str, Any], name: str) -> list[list[str | int]]:
    """Return the paths under which a field of a changed schema is read."""
    alias = field.get("validation_alias", name)
    if isinstance(alias, str):
        return [[alias]]
    return alias if isinstance(alias[0], list) else [alias]


def _changed(schema: Any, config: Mapping[str, Any], known: bool) -> Any:
    if isinstance(schema, (list, tuple)):
        return type(schema)(_changed(part, config, known) for part in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    cls = schema.get("cls")
    if isinstance(cls, type) and kind != "is-subclass":
        speaks_bus = hasattr(cls, "__from_bus__") or hasattr(cls, "__to_bus__")
        if speaks_bus or (kind == "is-instance" and not known):
            return _bus_type(cls, schema.get("ref"))
    config = schema.get("config") or config
    inside = known or kind in _OF_KNOWN_CLASSES
    changed: dict[str, Any] = {}
    for key, part in schema.items():
        still_known = inside and key not in _PARTS_OF_VALUES
        if key in _BY_NAME and isinstance(part, dict):
            changed[key] = {name: _changed(each, config, False) for name, each in part.items()}
        else:
            changed[key] = part if key in _OPAQUE else _changed(part, config, still_known)
    if kind == "default" and schema.get("default", ...) is None:
        # `name: str = None` in a class is what its objects hold, so it is sent, too.
        changed["schema"] = core_schema.nullable_schema(changed["schema"])
    change = _CHANGES.get(kind) if isinstance(kind, str) else None
    if kind in _NEVER_STRICT:
        changed["strict"] = False
    return changed if change is None else change(changed, config)


# Classes with a form of their own

_BASES: tuple[type, ...] = (str, int, float, bytes, list, tuple, dict, set, frozenset)
"""Builtin types whose subclasses are written as these are, and are made of them again."""


def _bus_type(cls: Any, ref: str | None) -> core_schema.CoreSchema:
    from_bus: Callable[[Any], Any] | None = getattr(cls, "__from_bus__", None)
    base = next((each for each in _BASES if issubclass(cls, each)), None)
    if from_bus is None and not hasattr(cls, "__to_bus__") and base is not None:
        return _subclass(cls, base, ref)

    def load(value: Any) -> Any:
        if from_bus is None or isinstance(value, cls):
            return value
        try:
            return from_bus(value)
        except Exception as error:  # pydantic reports ValueError with the path to the value, and lets others through
            raise ValueError(f"{cls.__name__}.__from_bus__ raised {type(error).__name__}: {error}") from error

    return core_schema.no_info_plain_validator_function(load, ref=ref, json_schema_input_schema=_sent_as(cls))


def _subclass(cls: Any, base: type, ref: str | None) -> core_schema.CoreSchema:
    """Make values of a class like `class Name(str)`, where its constructor takes what a builtin type's takes."""

    def load(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        try:
            return cls(value)
        except Exception:  # it wants other arguments: then the plain value has to do
            return value

    return core_schema.no_info_after_validator_function(load, TypeAdapter(base).core_schema, ref=ref)


def _sent_as(cls: Any) -> core_schema.CoreSchema:
    try:
        hint = typing.get_type_hints(cls.__to_bus__).get("return", Any)
        return TypeAdapter(hint).core_schema
    except Exception:  # no `__to_bus__`, or none whose annotation says anything
        return core_schema.any_schema()


# Enums


def _enum(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    members = schema["members"]
    if all(isinstance(member.value, (str, int, float)) for member in members):
        return schema  # pydantic finds these by their values
    return _by_value(schema, members)


def _literal(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    members = [each for each in schema["expected"] if isinstance(each, Enum)]
    return _by_value(schema, members) if members else schema


def _by_value(schema: dict[str, Any], members: Iterable[Enum]) -> Any:
    """Find members by their values as the bus carries them: a tuple is a list there."""
    by_form = {encode(member): member for member in members}
    ref = schema.pop("ref", None)

    def find(value: Any) -> Any:
        try:
            return value if isinstance(value, Enum) else by_form.get(encode(value), value)
        except Exception:  # what cannot be sent is none of them
            return value

    return core_schema.no_info_before_validator_function(find, schema, ref=ref)


def _tagged_union(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    choices = schema["choices"]
    return {**schema, "choices": {**choices, **{tag.value: it for tag, it in choices.items() if isinstance(tag, Enum)}}}


def _decimal(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Take NaN and the infinities, which are sent, unless the annotation says something else, as of their digits."""
    counts_digits = "max_digits" in schema or "decimal_places" in schema
    return schema if counts_digits else {"allow_inf_nan": True, **schema}


def _generator(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Return a list where pydantic would hand out an iterator, which is equal to nothing and can be read once."""
    kept = {key: part for key, part in schema.items() if key in ("items_schema", "ref", "metadata")}
    return {"type": "list", **kept}


# Names of fields


def _model_fields(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """A model is written by the names for serialization."""
    fields = schema["fields"]
    return {**schema, "fields": _read_as_written(fields, config, lambda name, field: field.get("serialization_alias"))}


def _dataclass_args(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """A dataclass is written by the names of its fields."""
    fields = _read_as_written({field["name"]: field for field in schema["fields"]}, config, lambda name, field: name)
    return {**schema, "fields": list(fields.values())}


def _typed_dict(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """A TypedDict is written as it is."""
    return {**schema, "fields": _read_as_written(schema["fields"], config, lambda name, field: name)}


def _read_as_written(
    fields: Mapping[str, Any], config: Mapping[str, Any], written: Callable[[str, Any], str | None]
) -> dict[str, Any]:
    """Let each field be read under the name by which it is written, too, unless that is another one's."""
    by_alias = config.get("validate_by_alias") is not False
    paths = {name: names_read(field, name) if by_alias else [[name]] for name, field in fields.items()}
    taken = {path[0] for own in paths.values() for path in own}
    changed = {}
    for name, field in fields.items():
        wire_name = written(name, field) or name
        own = paths[name] if wire_name in taken else [*paths[name], [wire_name]]
        plain = {key: part for key, part in field.items() if key != "validation_alias"}
        changed[name] = plain if own == [[name]] else {**plain, "validation_alias": own}
    return changed


def _by_alias_too(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """The names for reading are all aliases now, also those of a class that is read by its fields' names only."""
    own = schema.get("config")
    if not own or own.get("validate_by_alias") is not False:
        return schema
    return {**schema, "config": {**own, "validate_by_alias": True}}


def _typed_dict_and_config(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    return _by_alias_too(_typed_dict(schema, config), config)


_CHANGES: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], Any]] = {
    "enum": _enum,
    "literal": _literal,
    "tagged-union": _tagged_union,
    "generator": _generator,
    "decimal": _decimal,
    "str": text_of,
    "model-fields": _model_fields,
    "dataclass-args": _dataclass_args,
    "typed-dict": _typed_dict_and_config,
    "model": _by_alias_too,
    "dataclass": _by_alias_too,
}
