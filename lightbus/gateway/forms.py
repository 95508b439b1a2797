"""Values of the bus as JSON, and JSON as values of the bus."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json

from ..web.bodies import json_value
from ..wire.plain import json_form

__all__ = ["EVENT_FIELDS", "event_form", "read_object", "value_form"]

EVENT_FIELDS = ("id", "native_id", "api", "event", "version", "published_at", "kwargs")
"""The fields of an event in a stream."""


def value_form(value: Any) -> bytes:
    """
    Encode a value as JSON: dates, UUIDs, Decimals and bytes become strings, NaN and infinities become null.

    Raises DeformError for a value that has no JSON form, or is nested too deeply for it.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError):  # a type that JSON does not have, a lone surrogate, or too deep
        return _whole(json_form(value))


def _whole(value: Any) -> bytes:
    try:
        return bytes(to_json(value, inf_nan_mode="null"))
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=lambda name: None)).encode()


def event_form(event: dict[str, Any]) -> bytes:
    """Return the JSON of an event in a stream."""
    return value_form({name: event[name] for name in EVENT_FIELDS})


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; an empty dict for an empty body. Raises ValueError for any other body."""
    if not body:
        return {}
    value = json_value(body)
    if not isinstance(value, dict):
        raise ValueError(f"it is {_KINDS[type(value)]}")
    return value


_KINDS = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
"""The names of JSON types in error texts."""
