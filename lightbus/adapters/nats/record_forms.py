"""The valid forms of group records: every program that reaches the servers can write into a bucket."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

__all__ = ["read_record"]

_StartKey = Annotated[str, Field(pattern=":[0-9]{1,19}$")]
"""`<event>:<sequence>`."""


@with_config(ConfigDict(strict=True))
class _Info(TypedDict):
    name: str
    events: list[str]
    start: NonNegativeInt
    past: NotRequired[NonNegativeInt]
    created_at: NotRequired[float]
    numbers: NotRequired[dict[str, NonNegativeInt | None] | None]


@with_config(ConfigDict(strict=True))
class _PartitionRecord(TypedDict):
    owner: NotRequired[str]
    cursors: NotRequired[dict[str, NonNegativeInt]]
    starts: NotRequired[dict[_StartKey, NonNegativeInt]]
    begun_through: NotRequired[NonNegativeInt]
    numbers: NotRequired[dict[str, NonNegativeInt | None]]
    lost: NotRequired[dict[str, NonNegativeInt]]


@with_config(ConfigDict(strict=True))
class _DeadLetterRecord(TypedDict):
    group: str
    deliveries: NonNegativeInt
    error: str
    died_at: float


@with_config(ConfigDict(strict=True))
class _Move(TypedDict):
    behind: NonNegativeInt


@with_config(ConfigDict(strict=True))
class _Counts(TypedDict):
    through: NonNegativeInt
    subjects: dict[str, Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]]


_FORMS: tuple[tuple[re.Pattern[str], TypeAdapter[Any]], ...] = (
    (re.compile(r"info\.[^.]+"), TypeAdapter(_Info)),
    (re.compile(r"part\.[^.]+\.[0-9]{1,5}"), TypeAdapter(_PartitionRecord)),
    (re.compile(r"member\.[^.]+\.[^.]+"), TypeAdapter(dict[str, Any])),
    (re.compile(r"dead\.[^.]+\.[0-9]{1,19}"), TypeAdapter(_DeadLetterRecord)),
    (re.compile(r"move\..+"), TypeAdapter(_Move)),
    (re.compile(r"count\.all"), TypeAdapter(_Counts)),
)
"""Patterns of keys, and the form of their records; further fields are ignored."""


def read_record(key: str, data: bytes) -> dict[str, Any]:
    """Return the content of a record. Raises ValueError, with the reason, if it is not in a valid form."""
    form = next((form for keys, form in _FORMS if keys.fullmatch(key)), None)
    if form is None:
        raise ValueError("no record has such a key")
    try:
        value = json.loads(data)
        form.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return dict(value)
