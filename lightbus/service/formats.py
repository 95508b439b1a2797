"""Texts that represent other values: which of them a `format` of a JSON Schema accepts.

A text is accepted if it can be cast to the type for a handler annotated with it, and refused otherwise: so the
publisher gets the error, and not every listener. JSON Schema's own rules differ: they refuse a datetime without a time
zone, and have no Decimal.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID

from .format_names import COMPLEX, DECIMAL

__all__ = ["FORMATS"]

_TYPES: dict[str, Any] = {
    "date-time": datetime,
    "date": date,
    "time": time,
    "duration": timedelta,
    "uuid": UUID,
    "uuid4": UUID,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}

_UNCHECKED = (
    "email", "idn-email", "hostname", "idn-hostname", "uri", "uri-reference", "iri", "iri-reference", "uri-template",
    "json-pointer", "relative-json-pointer", "regex",
)  # fmt: skip
"""Formats that jsonschema_rs would check by the RFCs; no Python type checks in the same way."""


_DURATION = re.compile(r"-?PT\d+(\.\d+)?S")
_ZONE_WITH_SECONDS = re.compile(r"[+-]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{6})?\Z")


def _is_a(annotation: Any, text: str) -> bool:
    from .casting import is_text_of  # pydantic is loaded when the first such text is checked

    return is_text_of(annotation, text) or _is_of_a_value(annotation, text)


def _is_of_a_value(annotation: Any, text: str) -> bool:
    """Return whether a text is a value's form as written by `json_form`: pydantic does not read all of these."""
    if annotation is timedelta:
        return _DURATION.fullmatch(text) is not None
    zone = _ZONE_WITH_SECONDS.search(text) if annotation in (datetime, time) else None
    if zone is None:
        return False
    rest = text[: zone.start()]  # without the zone: Python itself reads a zone of less than a second as none
    with contextlib.suppress(ValueError):
        return bool(annotation.fromisoformat(rest).isoformat() == rest)
    return False


def _made_by(kind: Callable[[str], Any], text: str) -> bool:
    with contextlib.suppress(ValueError, InvalidOperation):
        kind(text)
        return True
    return False


def _anything(text: str) -> bool:
    return True


FORMATS: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(_UNCHECKED, _anything),
    **{name: partial(_is_a, annotation) for name, annotation in _TYPES.items()},
    DECIMAL: partial(_made_by, Decimal),
    COMPLEX: partial(_made_by, complex),
}
"""For each format, a function that returns whether a text is valid; it never raises."""
