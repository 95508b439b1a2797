"""Annotations -> JSON Schema, and values cast to annotations, by way of pydantic.

`from_wire.py` makes its schemas take what the bus carries, `json_forms.py` describes that. Importing pydantic costs a
tenth of a second, so `signature.py` does that when the first annotation needs it: an argument annotated with anything
but a builtin, or a schema that somebody asked for.
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
    """A value cannot become what the annotation says. `problem` is the first such value."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Caster:
    """
    Annotated values by name: their JSON Schemas, and how to cast plain values to the annotations.

    An annotation that pydantic cannot use counts as `Any`, with a warning in the log: an unusual annotation must not
    keep a service from starting.

    Attributes:
        properties: the JSON Schema of each value.
        definitions: the `$defs` they refer to.

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
        """Made when the first value is cast: most annotations are never used for that."""
        return self._compiled()[0]

    def _compiled(self) -> tuple[SchemaValidator, JsonSchema]:
        try:
            return _compile(self._annotations)
        except Exception:  # pydantic raises half a dozen classes here, and user code (`__get_pydantic...`) any other
            return _compile(_usable(self._annotations, self._what))

    def cast(self, values: Kwargs, *, strict: bool = False) -> Kwargs:
        """
        Return `values` as their annotations want them; those without annotation as they are.

        Arguments:
            values: by name.
            strict: convert no other value to text.

        Raises:
            CastFailed: a value cannot be made what its annotation says.

        """
        known = {name: values[name] for name in self._annotations if name in values}
        try:
            return {**values, **self._validator.validate_python(known, context=STRICT if strict else None)}
        except PydanticError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            problem = Problem(path=first["loc"], got=first["input"], reason=_reason(first["msg"]))
            raise CastFailed(problem) from error
        except Exception as error:  # a `__post_init__` of the user's, for one
            problem = Problem(path=(), got=known, reason=f"casting raised {type(error).__name__}: {error}")
            raise CastFailed(problem) from error


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def is_text_of(annotation: Any, text: str) -> bool:
    """Return whether a text can be cast to what a type stands for: "2026-01-31" to a date."""
    try:
        _adapter(annotation).validate_python(text)
    except PydanticError:
        return False
    return True


def _reason(message: str) -> str:
    # "Input should be ..." stands in the middle of a sentence of ours; a ValueError's text is the user's own.
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
    adapter.rebuild()  # raises for a name that is not defined, which making it does not
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
"""What pydantic only holds values against, without a look at their items."""


def _readable(annotation: Any) -> Any:
    """Return the annotation with what pydantic can read instead of what it cannot."""
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
"""The modern form of each TypedDict that was met, there before that of its items: one may hold itself."""


def _modern(annotation: Any, made: _Made) -> Any:
    """Return the annotation without `typing.TypedDict`: before 3.12 pydantic wants the one of typing_extensions."""
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
    # What Python 3.11 has found out of the keys is wrong where annotations are postponed: then the hint alone says it.
    if typing.get_origin(hint) in (Required, NotRequired):
        return typing.get_origin(hint)[_modern(typing.get_args(hint)[0], made)]
    return (Required if name in old.__required_keys__ else NotRequired)[_modern(hint, made)]
