"""Annotations -> JSON Schema, and values cast to annotations, by pydantic.

`from_wire.py` changes its schemas for values received from the bus, `json_forms.py` describes these. Importing pydantic
takes a tenth of a second, so `signature.py` imports it when first needed: for an annotation that is not a builtin, or
for a requested schema.
"""

from __future__ import annotations

import collections.abc
import functools
import logging
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, LiteralString, NotRequired, Required, TypeAlias, Union

from pydantic import ConfigDict, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic_core import SchemaValidator
from typing_extensions import TypedDict

from ..typing import JsonSchema, Kwargs
from .describing import described
from .from_wire import from_wire, validator_of
from .json_forms import json_schema_of
from .problems import Problem
from .texts import STRICT

__all__ = ["CastFailed", "Caster", "is_text_of"]

logger = logging.getLogger("lightbus.service")


class CastFailed(Exception):
    """A value cannot be cast to its annotation. `problem` describes the first such value."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Caster:
    """
    Annotated values by name: their JSON Schemas, and the casting of plain values to the annotations.

    An annotation that pydantic cannot use counts as `Any`, with a warning in the log: an unusual annotation must not
    keep a service from starting.

    Attributes:
        properties: the JSON Schema of each value.
        definitions: the `$defs` that they refer to.

    """

    def __init__(self, annotations: Mapping[str, Any], *, what: str) -> None:
        self._annotations = dict(annotations)
        self._what = what
        schema = described(annotations, _core)
        if schema is None:
            self._validator, schema = self._compiled()
        properties = schema.get("properties", {})
        self.properties: dict[str, JsonSchema] = {name: properties.get(name, {}) for name in annotations}
        self.definitions: dict[str, JsonSchema] = schema.get("$defs", {})

    @functools.cached_property
    def _validator(self) -> SchemaValidator:
        """The validator, created when the first value is cast: most annotations never need it."""
        return self._compiled()[0]

    def _compiled(self) -> tuple[SchemaValidator, JsonSchema]:
        try:
            return _compile(self._annotations)
        except Exception:  # pydantic raises half a dozen classes here, and user code (`__get_pydantic...`) any class
            return _compile(_usable(self._annotations, self._what))

    def cast(self, values: Kwargs, *, strict: bool = False) -> Kwargs:
        """
        Return `values` cast to their annotations; those without annotation unchanged.

        Arguments:
            values: the values by name.
            strict: do not convert other values to text.

        Raises:
            CastFailed: a value cannot be cast to its annotation.

        """
        known = {name: values[name] for name in self._annotations if name in values}
        try:
            return {**values, **self._validator.validate_python(known, context=STRICT if strict else None)}
        except PydanticError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            problem = Problem(path=first["loc"], got=first["input"], reason=_reason(first["msg"]))
            raise CastFailed(problem) from error
        except Exception as error:  # from a user's `__post_init__`, for example
            problem = Problem(path=(), got=known, reason=f"casting raised {type(error).__name__}: {error}")
            raise CastFailed(problem) from error


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def is_text_of(annotation: Any, text: str) -> bool:
    """Return whether a text can be cast to a type: "2026-01-31" to a date."""
    try:
        _adapter(annotation).validate_python(text)
    except PydanticError:
        return False
    return True


def _reason(message: str) -> str:
    # "Input should be ..." is used within a sentence of ours; a ValueError's text is the user's own.
    own = message.removeprefix("Value error, ")
    return own if own != message else message[:1].lower() + message[1:]


def _compile(annotations: Mapping[str, Any]) -> tuple[SchemaValidator, JsonSchema]:
    core = _core(annotations)
    return validator_of(core), json_schema_of(core)


def _core(annotations: Mapping[str, Any]) -> Any:
    make_typed_dict: Any = TypedDict
    made: _Made = {}
    hints = {name: _modern(_readable(hint), made) for name, hint in annotations.items()}
    holder = make_typed_dict("Values", hints, total=False)
    holder.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    adapter = TypeAdapter(holder)
    adapter.rebuild()  # raises for an undefined name; creating the adapter does not
    return from_wire(adapter.core_schema)


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


_AS_SEQUENCE = (collections.abc.Collection, collections.abc.Container, collections.abc.Reversible)
"""Types whose items pydantic does not check."""


def _readable(annotation: Any) -> Any:
    """Return the annotation, with parts that pydantic cannot read replaced."""
    if annotation is LiteralString:
        return str
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not arguments or origin is Literal:
        return annotation
    readable = tuple(_readable(argument) for argument in arguments)
    if origin in _AS_SEQUENCE:
        return _generic(Sequence, readable)
    return annotation if readable == arguments else _generic(origin, readable)


_Made: TypeAlias = dict[Any, Any]
"""The modern form of each TypedDict found, added before that of its items: a TypedDict may contain itself."""


def _modern(annotation: Any, made: _Made) -> Any:
    """Return the annotation without `typing.TypedDict`: before 3.12 pydantic requires that of typing_extensions."""
    if sys.version_info >= (3, 12):
        return annotation
    if type(annotation) is type(_OldTypedDict):
        return made[annotation] if annotation in made else _modern_typed_dict(annotation, made)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not arguments or origin is Literal:
        return annotation
    modern = tuple(_modern(argument, made) for argument in arguments)
    return annotation if modern == arguments else _generic(origin, modern)


def _generic(origin: Any, arguments: tuple[Any, ...]) -> Any:
    container: Any = Union if origin in (Union, types.UnionType) else Annotated if origin is Annotated else origin
    return container[arguments]


class _OldTypedDict(typing.TypedDict):
    pass


def _modern_typed_dict(old: Any, made: _Made) -> Any:
    make_typed_dict: Any = TypedDict
    hints = typing.get_type_hints(old, include_extras=True)
    made[old] = modern = make_typed_dict(old.__name__, dict.fromkeys(hints, Any))
    modern.__annotations__ = {name: _modern_item(old, name, hint, made) for name, hint in hints.items()}
    return modern


def _modern_item(old: Any, name: str, hint: Any, made: _Made) -> Any:
    # Python 3.11 sets `__required_keys__` wrongly if annotations are postponed: then only the hint is right.
    if typing.get_origin(hint) in (Required, NotRequired):
        return typing.get_origin(hint)[_modern(typing.get_args(hint)[0], made)]
    return (Required if name in old.__required_keys__ else NotRequired)[_modern(hint, made)]
