"""
pydantic's core schemas, changed to accept values as the bus carries them.

The bus carries an Enum as its value, every sequence as a list, a dataclass, a NamedTuple and a model as a dict with the
names under which they are written. pydantic, validating Python values, accepts these only in part: not if a model is
strict, not if a field is read under another name than it is written, not an Enum of tuples. Only that is changed here,
and classes with a form of their own (`__from_bus__`); all constraints and validators stay.
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

# Parts of a core schema that contain values and functions of the user, not schemas.
_OPAQUE = frozenset({"metadata", "serialization", "default", "default_factory", "expected", "members", "cls", "config"})

# Dicts of schemas by names that the user chose: a field may be called "type", or "default".
_BY_NAME = frozenset({"fields", "choices"})

# Kinds whose values have another type on the wire than in Python, and so fail in strict mode.
_NEVER_STRICT = frozenset(
    {
        *("enum", "tuple", "tuple-positional", "tuple-variable", "set", "frozenset", "deque", "list"),
        *("lax-or-strict", "dataclass", "model", "named-tuple", "call", "typed-dict", "dict", "counter"),
        *("ordered-dict", "fraction", "url", "multi-host-url"),
    }
)

# Kinds within which pydantic itself checks for classes that it knows: Path, SecretStr, Sequence.
_OF_KNOWN_CLASSES = frozenset({"lax-or-strict", "json-or-python", "chain"})
_PARTS_OF_VALUES = frozenset({"items_schema", "keys_schema", "values_schema", "fields"})


def from_wire(schema: Any) -> Any:
    """Return a core schema that accepts values as the bus carries them, with the same results as `schema`."""
    return _changed(schema, {}, False)


def validator_of(schema: Any) -> SchemaValidator:
    """Return a new validator for a changed schema: the existing one of a model knows nothing of the wire."""
    build: Any = SchemaValidator
    try:
        made: SchemaValidator = build(schema, _use_prebuilt=False)
        return made
    except TypeError:  # releases before 2.13 have no such option: they reuse the validator of a complete class
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
    """Return the direct parts of a core schema, schemas or not."""
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
        # With `name: str = None` in a class, its objects may have None, so None is sent, too.
        changed["schema"] = core_schema.nullable_schema(changed["schema"])
    change = _CHANGES.get(kind) if isinstance(kind, str) else None
    if kind in _NEVER_STRICT:
        changed["strict"] = False
    return changed if change is None else change(changed, config)


# Classes with a form of their own

_BASES: tuple[type, ...] = (str, int, float, bytes, list, tuple, dict, set, frozenset)
"""Builtin types whose subclasses are written as these types, and are created from them again."""


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
    """Return a schema that creates values of a class like `class Name(str)`, if its constructor takes one value."""

    def load(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        try:
            return cls(value)
        except Exception:  # the constructor takes other arguments: use the plain value
            return value

    return core_schema.no_info_after_validator_function(load, TypeAdapter(base).core_schema, ref=ref)


def _sent_as(cls: Any) -> core_schema.CoreSchema:
    try:
        hint = typing.get_type_hints(cls.__to_bus__).get("return", Any)
        return TypeAdapter(hint).core_schema
    except Exception:  # no `__to_bus__`, or none with a usable annotation
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
    """Return a schema that finds members by their values as the bus carries them: a tuple as a list."""
    by_form = {encode(member): member for member in members}
    ref = schema.pop("ref", None)

    def find(value: Any) -> Any:
        try:
            return value if isinstance(value, Enum) else by_form.get(encode(value), value)
        except Exception:  # a value that cannot be sent is not a member
            return value

    return core_schema.no_info_before_validator_function(find, schema, ref=ref)


def _tagged_union(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    choices = schema["choices"]
    return {**schema, "choices": {**choices, **{tag.value: it for tag, it in choices.items() if isinstance(tag, Enum)}}}


def _decimal(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Accept NaN and the infinities, which can be sent, unless the annotation limits digits or forbids them."""
    counts_digits = "max_digits" in schema or "decimal_places" in schema
    return schema if counts_digits else {"allow_inf_nan": True, **schema}


def _generator(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Return a list where pydantic would return an iterator, which can only be read once and compared with nothing."""
    kept = {key: part for key, part in schema.items() if key in ("items_schema", "ref", "metadata")}
    return {"type": "list", **kept}


# Names of fields


def _model_fields(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Read fields under their serialization names, too: a model is written with these."""
    fields = schema["fields"]
    return {**schema, "fields": _read_as_written(fields, config, lambda name, field: field.get("serialization_alias"))}


def _dataclass_args(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Read fields under their own names, too: a dataclass is written with these."""
    fields = _read_as_written({field["name"]: field for field in schema["fields"]}, config, lambda name, field: name)
    return {**schema, "fields": list(fields.values())}


def _typed_dict(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Read items under their own names, too: a TypedDict is written with these."""
    return {**schema, "fields": _read_as_written(schema["fields"], config, lambda name, field: name)}


def _read_as_written(
    fields: Mapping[str, Any], config: Mapping[str, Any], written: Callable[[str, Any], str | None]
) -> dict[str, Any]:
    """Let each field be read under the name with which it is written, too, unless another field has that name."""
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
    """Allow aliases: all names for reading are aliases now, even for a class that is read by field names only."""
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
