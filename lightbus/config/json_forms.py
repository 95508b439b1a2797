"""The sections of the configuration as JSON Schema, for editors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ..typing import JsonSchema
from .sections import Setting, Settings

__all__ = ["json_schema_of"]


def json_schema_of(section: type[Settings]) -> JsonSchema:
    """Return the JSON Schema (2020-12) of a section, with the definitions of its nested sections."""
    below = {each.__name__: each for each in _nested_sections(section)}
    return {"$defs": {name: _section_schema(each) for name, each in sorted(below.items())}, **_section_schema(section)}


def _nested_sections(section: type[Settings]) -> Iterator[type[Settings]]:
    for each in section.model_fields.values():
        if (inside := each.kind.section) is not None:
            yield inside
            yield from _nested_sections(inside)


def _section_schema(section: type[Settings]) -> JsonSchema:
    return {
        "title": section.__name__,
        "description": inspect.getdoc(section),
        "type": "object",
        "properties": {
            each.alias or name: _described(each.alias or name, each) for name, each in section.model_fields.items()
        },
        "additionalProperties": section.takes_more,
    }


def _described(key: str, declared: Setting) -> JsonSchema:
    kind = declared.kind
    is_section = kind.section is not None and not kind.is_by_name
    return {
        **({} if is_section else {"title": key.replace("_", " ").title()}),
        **kind.json,
        "default": _in_json(declared.default),
        **({"description": declared.description} if declared.description else {}),
    }


def _in_json(value: Any) -> Any:
    if isinstance(value, Settings):
        return _in_json(value.model_dump(by_alias=True))
    if isinstance(value, dict):
        return {name: _in_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(each) for each in value]
    return getattr(value, "value", value)  # of an Enum
