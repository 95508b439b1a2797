"""Annotations -> JSON Schema, and values cast to annotations: the one place that knows pydantic.

Importing it costs a tenth of a second, so `signature.py` does that when the first annotation needs it: an argument
annotated with anything but a builtin, or a schema that somebody asked for.
"""

from __future__ import annotations

import functools
import logging
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from pydantic import ConfigDict, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaValidator, core_schema
from typing_extensions import TypedDict

from ..typing import JsonSchema, Kwargs
from .validating import Problem

__all__ = ["CastFailed", "Caster"]

logger = logging.getLogger("lightbus.service")

# Parts of a core schema that hold values and functions of the user's, and no schemas.
_OPAQUE = frozenset({"metadata", "serialization", "default", "default_factory", "expected", "members", "cls", "config"})


class CastFailed(Exception):
    """A value cannot become what the annotation says. `problem` is the first such value."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Caster:
    """
    Values by name, each with an annotation: their JSON Schemas, and how to make plain values what is annotated.

    An annotation that pydantic cannot use counts as `Any`, with a warning in the log: an unusual annotation must not
    keep a service from starting.

    Attributes:
        properties: the JSON Schema of each value.
        definitions: the `$defs` they refer to.

    """

    def __init__(self, annotations: Mapping[str, Any], *, what: str) -> None:
        try:
            self._validator, schema = _compile(annotations)
        except Exception:  # pydantic raises half a dozen classes here, and user code (`__get_pydantic...`) any other
            self._validator, schema = _compile(_usable(annotations, what))
        self._names = tuple(annotations)
        self.properties: dict[str, JsonSchema] = schema.get("properties", {})
        self.definitions: dict[str, JsonSchema] = schema.get("$defs", {})

    def cast(self, values: Kwargs) -> Kwargs:
        """
        Return `values` as their annotations want them; those without annotation as they are.

        Raises:
            CastFailed: a value cannot be made what its annotation says.

        """
        known = {name: values[name] for name in self._names if name in values}
        try:
            return {**values, **self._validator.validate_python(known)}
        except PydanticError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            problem = Problem(path=first["loc"], got=first["input"], reason=_reason(first["msg"]))
            raise CastFailed(problem) from error
        except Exception as error:  # a `__post_init__` of the user's, for one
            problem = Problem(path=(), got=known, reason=f"casting raised {type(error).__name__}: {error}")
            raise CastFailed(problem) from error


def _reason(message: str) -> str:
    # "Input should be ..." stands in the middle of a sentence of ours; a ValueError's text is the user's own.
    own = message.removeprefix("Value error, ")
    return own if own != message else message[:1].lower() + message[1:]


def _compile(annotations: Mapping[str, Any]) -> tuple[SchemaValidator, JsonSchema]:
    make_typed_dict: Any = TypedDict
    holder = make_typed_dict("Values", {name: _modern(hint) for name, hint in annotations.items()}, total=False)
    holder.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    adapter = TypeAdapter(holder)
    adapter.rebuild()  # raises for a name that is not defined, which making it does not
    core = _with_bus_types(adapter.core_schema)
    return SchemaValidator(core), _BusJsonSchema().generate(core, mode="validation")


def _usable(annotations: Mapping[str, Any], what: str) -> dict[str, Any]:
    usable = {}
    for name, annotation in annotations.items():
        try:
            _compile({name: annotation})
            usable[name] = annotation
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logger.warning("%s: any value is accepted for %s, its annotation is of no use: %s", what, name, reason)
            usable[name] = Any
    return usable


def _with_bus_types(schema: Any) -> Any:
    """
    Return the core schema with every class that pydantic does not know, or that has a say of its own, replaced.

    Working on pydantic's result reaches such classes at any depth, inside of a user's dataclass as well.
    """
    if isinstance(schema, (list, tuple)):
        return type(schema)(_with_bus_types(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    cls = schema.get("cls")
    if isinstance(cls, type):
        speaks_bus = hasattr(cls, "__from_bus__") or hasattr(cls, "__to_bus__")
        if speaks_bus or schema["type"] == "is-instance":
            return _bus_type(cls, schema.get("ref"))
    return {key: part if key in _OPAQUE else _with_bus_types(part) for key, part in schema.items()}


def _bus_type(cls: Any, ref: str | None) -> core_schema.CoreSchema:
    from_bus: Callable[[Any], Any] | None = getattr(cls, "__from_bus__", None)

    def load(value: Any) -> Any:
        if from_bus is None or isinstance(value, cls):
            return value
        try:
            return from_bus(value)
        except Exception as error:  # pydantic reports ValueError with the path to the value, and lets others through
            raise ValueError(f"{cls.__name__}.__from_bus__ raised {type(error).__name__}: {error}") from error

    return core_schema.no_info_plain_validator_function(load, ref=ref, json_schema_input_schema=_sent_as(cls))


def _sent_as(cls: Any) -> core_schema.CoreSchema:
    try:
        hint = typing.get_type_hints(cls.__to_bus__).get("return", Any)
        return TypeAdapter(hint).core_schema
    except Exception:  # no `__to_bus__`, or none whose annotation says anything
        return core_schema.any_schema()


class _BusJsonSchema(GenerateJsonSchema):
    """JSON Schema of values in the form in which the bus carries them."""

    def __init__(self) -> None:
        super().__init__(by_alias=True)
        self.ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        # pydantic's pattern refuses exponents, which str(Decimal) writes.
        form = super().decimal_schema(schema)
        for choice in form.get("anyOf", ()):
            choice.pop("pattern", None)
        return form

    def named_tuple_schema(self, schema: Any) -> JsonSchemaValue:
        # To pydantic a NamedTuple is an array, to the bus a dict.
        form = super().named_tuple_schema(schema)
        names = [field["name"] for field in schema["fields"]]
        properties = dict(zip(names, form.get("prefixItems", ()), strict=True))
        return {"type": "object", "properties": properties, "required": names[: form.get("minItems", 0)]}

    def arguments_schema(self, schema: Any) -> JsonSchemaValue:
        # The same for earlier releases of pydantic, which see a NamedTuple as the arguments of its class.
        without_preference: Any = {**schema, "metadata": {}}
        return super().arguments_schema(without_preference)


def _modern(annotation: Any) -> Any:
    """Return the annotation without `typing.TypedDict`: before 3.12 pydantic wants the one of typing_extensions."""
    if sys.version_info >= (3, 12):
        return annotation
    if type(annotation) is type(_OldTypedDict):
        return _modern_typed_dict(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not arguments or origin is Literal:
        return annotation
    modern = tuple(_modern(argument) for argument in arguments)
    if modern == arguments:
        return annotation
    container: Any = Union if origin in (Union, types.UnionType) else Annotated if origin is Annotated else origin
    return container[modern]


class _OldTypedDict(typing.TypedDict):
    pass


@functools.cache
def _modern_typed_dict(old: Any) -> Any:
    hints = typing.get_type_hints(old)
    make_typed_dict: Any = TypedDict
    keys = {
        name: Required[_modern(hint)] if name in old.__required_keys__ else NotRequired[_modern(hint)]
        for name, hint in hints.items()
    }
    return make_typed_dict(old.__name__, keys)
