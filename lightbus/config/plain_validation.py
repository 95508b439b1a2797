"""
Validate settings that are plainly valid, as nearly all are, without pydantic's core, which takes 5 MB of memory.

It interprets the same schema that pydantic's core uses, and accepts less: a value that is not of exactly the right
type, or not in an unambiguous form, raises NeedsPydantic, and the core decides. So the schema, and the texts of errors,
are defined in one place.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["NeedsPydantic", "validated"]

_SWITCHES = {"true": True, "false": False}
_WHOLE, _NUMBER = re.compile(r"[0-9]{1,15}"), re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


class NeedsPydantic(Exception):
    """Only pydantic's core can decide about this value."""


def validated(core: Mapping[str, Any], value: Any) -> Any:
    """Return a value validated by the schema `core`. Raises NeedsPydantic."""
    try:
        return _valid(core, value)
    except NeedsPydantic:
        raise
    except Exception as error:  # the core reports the error of a kind's function, with the path of the setting
        raise NeedsPydantic from error


def _valid(core: Mapping[str, Any], value: Any) -> Any:
    return _VALIDATORS[core["type"]](core, value)


def _text(core: Mapping[str, Any], value: Any) -> str:
    if type(value) is not str:
        raise NeedsPydantic
    return value


def _switch(core: Mapping[str, Any], value: Any) -> bool:
    return _SWITCHES[_text(core, value)] if type(value) is not bool else value


def _whole_number(core: Mapping[str, Any], value: Any) -> int:
    if type(value) is str and _WHOLE.fullmatch(value):
        value = int(value)
    if type(value) is not int or not _is_within(core, value):
        raise NeedsPydantic
    return value


def _number(core: Mapping[str, Any], value: Any) -> float:
    if type(value) is int or (type(value) is str and _NUMBER.fullmatch(value)):
        value = float(value)
    if type(value) is not float or not math.isfinite(value) or not _is_within(core, value):
        raise NeedsPydantic
    return value


def _is_within(core: Mapping[str, Any], value: float) -> bool:
    infinite = math.inf
    return bool(core.get("ge", -infinite) <= value <= core.get("le", infinite) and value > core.get("gt", -infinite))


def _literal(core: Mapping[str, Any], value: Any) -> str:
    if value not in core["expected"]:
        raise NeedsPydantic
    return _text(core, value)


def _member(core: Mapping[str, Any], value: Any) -> Any:
    return value if type(value) is core["cls"] else core["cls"](_text(core, value))


def _list(core: Mapping[str, Any], value: Any) -> list[Any]:
    if type(value) is not list:
        raise NeedsPydantic
    return [_valid(core["items_schema"], each) for each in value]


def _tuple(core: Mapping[str, Any], value: Any) -> tuple[Any, ...]:
    if type(value) is not list and type(value) is not tuple:
        raise NeedsPydantic
    [kind] = core["items_schema"]
    return tuple(_valid(kind, each) for each in value)


def _by_name(core: Mapping[str, Any], value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise NeedsPydantic
    return {_text(core, name): _valid(core["values_schema"], each) for name, each in value.items()}


def _optional(core: Mapping[str, Any], value: Any) -> Any:
    return None if value is None else _valid(core["schema"], value)


def _before(core: Mapping[str, Any], value: Any) -> Any:
    return _valid(core["schema"], core["function"]["function"](value))


def _after(core: Mapping[str, Any], value: Any) -> Any:
    return core["function"]["function"](_valid(core["schema"], value))


def _plain(core: Mapping[str, Any], value: Any) -> Any:
    return core["function"]["function"](value)


def _section(core: Mapping[str, Any], value: Any) -> Any:
    cls = core["cls"]
    if type(value) is cls:
        return value
    if type(value) is not dict:
        raise NeedsPydantic
    fields = core["schema"]["fields"]
    left, values, written = dict(value), {}, set()
    for name, field in fields.items():
        key = field.get("validation_alias", name)
        if key in left:
            values[name] = _valid(field["schema"]["schema"], left.pop(key))
            written.add(name)
        else:
            values[name] = _default(field["schema"])
    if left and (core["config"]["extra_fields_behavior"] != "allow" or set(map(type, left)) != {str}):
        raise NeedsPydantic
    return cls.model_construct({*written, *left}, {**values, **left})


def _default(core: Mapping[str, Any]) -> Any:
    default = copy.deepcopy(core["default"]) if core["copy_default"] else core["default"]
    return _valid(core["schema"], default) if core["validate_default"] else default


_VALIDATORS: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {
    "str": _text,
    "bool": _switch,
    "int": _whole_number,
    "float": _number,
    "literal": _literal,
    "enum": _member,
    "list": _list,
    "tuple": _tuple,
    "dict": _by_name,
    "nullable": _optional,
    "function-before": _before,
    "function-after": _after,
    "function-plain": _plain,
    "model": _section,
}
"""Type of a schema -> the function that validates by it."""
