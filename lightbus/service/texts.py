"""Casting to text: a handler with a `str` parameter gets dates, numbers and the like as text, as in Lightbus 1.x.

Lightbus 1.x sent dates, Decimals and UUIDs as text. Now they are sent as such values, and handlers written for their
texts still get texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import core_schema

from ..wire.codec import json_form
from ..wire.plain import EXTENSION_TYPES

__all__ = ["STRICT", "is_text", "text_of"]

STRICT = "strict"
"""The validation context in which only text is accepted as text."""


def text_of(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Return a core schema of text that also accepts values with a text; in a union only if no other choice fits."""
    outer = {key: schema[key] for key in ("ref", "metadata") if key in schema}
    inner: Any = {key: part for key, part in schema.items() if key not in outer}
    plain = inner.keys() <= {"type"}
    lax: Any = _plain(inner) if plain else core_schema.with_info_wrap_validator_function(_fit, inner)
    return {**core_schema.lax_or_strict_schema(lax, inner), **outer}


def is_text(schema: Any) -> bool:
    """Return whether a core schema was made by `text_of`."""
    return bool(schema.get("type") == "lax-or-strict" and schema["strict_schema"].get("type") == "str")


def _plain(text: Any) -> Any:
    # Nearly every value is a text: then no Python code runs for it.
    other = core_schema.with_info_plain_validator_function(_text)
    return core_schema.union_schema(
        [text, other],
        mode="left_to_right",
        custom_error_type="text",
        custom_error_message="Input should be a valid string",
    )


def _fit(value: Any, handler: Any, info: Any) -> Any:
    return handler(value if isinstance(value, (str, bytes)) else _text(value, info))


def _text(value: Any, info: Any) -> str:
    kind = type(value)
    if info.context != STRICT:
        if kind in EXTENSION_TYPES:
            return str(json_form(value))
        if kind in (int, float, bool):
            return str(value)
    raise ValueError("it has no text")
