"""Casting to text: a handler that asks for a `str` is given the text of what has one, as in Lightbus 1.x.

There dates, Decimals and UUIDs travelled as text. Here they are carried as they are, and a handler that was written
for their texts goes on to get those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import core_schema

from ..wire.codec import json_form
from ..wire.plain import EXTENSION_TYPES

__all__ = ["STRICT", "is_text", "text_of"]

STRICT = "strict"
"""What the context of a validation says where nothing is cast to text but text."""


def text_of(schema: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """Return a core schema of text that takes what has a text, too; in a union only where nothing fits as it is."""
    outer = {key: schema[key] for key in ("ref", "metadata") if key in schema}
    inner: Any = {key: part for key, part in schema.items() if key not in outer}
    plain = inner.keys() <= {"type"}
    lax: Any = _plain(inner) if plain else core_schema.with_info_wrap_validator_function(_fit, inner)
    return {**core_schema.lax_or_strict_schema(lax, inner), **outer}


def is_text(schema: Any) -> bool:
    """Return whether a core schema is one that `text_of` has made."""
    return bool(schema.get("type") == "lax-or-strict" and schema["strict_schema"].get("type") == "str")


def _plain(text: Any) -> Any:
    # Nearly every text is one: then no code of Python's is run for it.
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
