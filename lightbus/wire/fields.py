"""
Checks of message fields: type and range. A check takes any value and returns whether it is valid.

`field_types.py` attaches them to types. A value that has passed needs no further check: numbers are numbers (not bool,
Decimal or NaN), texts have a bounded length, lists a bounded number of items, and the items a checked form.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias, get_type_hints

__all__ = [
    "FIRST_MOMENT",
    "LAST_MOMENT",
    "MAX_INT",
    "MAX_SECONDS",
    "FieldCheck",
    "anything",
    "binary",
    "check_of",
    "checks_of",
    "either",
    "flag",
    "instance_id",
    "is_arguments",
    "listing",
    "moment",
    "no_instance_or_id",
    "number",
    "one_of",
    "optional",
    "passes",
    "prose",
    "published_records",
    "row",
    "since",
    "string_map",
    "text",
    "whole",
]

FieldCheck: TypeAlias = Callable[[Any], bool]

MAX_INT = 2**63 - 1
"""The largest integer that SQLite stores, and so the largest sequence."""

MAX_SECONDS = 253_402_300_799.0
"""The last second of the year 9999, since 1970: no `datetime` is later."""

FIRST_MOMENT, LAST_MOMENT = -62_135_510_400.0, MAX_SECONDS - 86_400.0
"""The second day of the year 1 and the last but one of 9999, since 1970: valid for `datetime` in every time zone."""

MAX_SINCE = 512
"""Characters of an event's id as a starting point."""

_HEX = frozenset("0123456789abcdef")


def anything(value: Any) -> bool:
    """Accept any value that the codec returns."""
    return True


def flag(value: Any) -> bool:
    """Accept a bool."""
    return value is True or value is False


def text(most: int, *, least: int = 0) -> FieldCheck:
    """
    Accept a printable text of `least` to `most` characters.

    NUL ends names in a topic, and with a newline, or a character that moves the terminal's cursor, a stranger could
    forge log lines.
    """

    def check(value: Any) -> bool:
        return type(value) is str and least <= len(value) <= most and value.isprintable()

    return check


def prose(most: int) -> FieldCheck:
    """Accept a text of at most `most` characters of any kind."""
    return lambda value: type(value) is str and len(value) <= most


def one_of(*values: str) -> FieldCheck:
    """Accept one of these texts."""
    return lambda value: type(value) is str and value in values


def instance_id(value: Any) -> bool:
    """Accept 16 lowercase hexadecimal digits."""
    return type(value) is str and len(value) == 16 and _HEX.issuperset(value)


def binary(most: int) -> FieldCheck:
    """Accept at most `most` bytes."""
    return lambda value: type(value) is bytes and len(value) <= most


def whole(low: int, high: int) -> FieldCheck:
    """Accept an integer in a range, both ends included."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> FieldCheck:
    """Accept an integer or a float in a range, both ends included. NaN is in none."""
    return lambda value: type(value) in (float, int) and low <= value <= high


def moment(value: Any) -> bool:
    """Accept seconds since 1970 that can be shown as date and time."""
    return type(value) in (float, int) and FIRST_MOMENT <= value <= LAST_MOMENT


def optional(kind: Any) -> FieldCheck:
    """Accept nil, too. Here and below, a kind is a check, or a type with its check: `Annotated[type, check]`."""
    check = check_of(kind)
    return lambda value: value is None or check(value)


def no_instance_or_id(value: Any) -> bool:
    """Accept an instance id or an empty text."""
    return value == "" or instance_id(value)


def either(*kinds: Any) -> FieldCheck:
    """Accept a value of any of these kinds."""
    checks = tuple(map(check_of, kinds))
    return lambda value: any(check(value) for check in checks)


def listing(kind: Any, most: int) -> FieldCheck:
    """Accept a list of at most `most` items of one kind."""
    check = check_of(kind)
    return lambda value: type(value) is list and len(value) <= most and all(map(check, value))


def row(*kinds: Any) -> FieldCheck:
    """Accept a list with exactly one item of each of these kinds, in order."""
    checks = tuple(map(check_of, kinds))
    count = len(checks)
    return lambda value: type(value) is list and len(value) == count and passes(checks, value)


def passes(checks: tuple[FieldCheck, ...], values: list[Any]) -> bool:
    """Return whether each value passes its check."""
    return all(map(operator.call, checks, values))


def is_arguments(value: Any) -> bool:
    """Accept a map whose keys are texts: the values are the user's, or of a later version."""
    if type(value) is not dict:
        return False
    for key in value:  # noqa: SIM110 - a generator costs more than most maps have keys
        if type(key) is not str:
            return False
    return True


def string_map(most: int) -> FieldCheck:
    """Accept a map of at most `most` entries whose keys are texts."""
    return lambda value: is_arguments(value) and len(value) <= most


def since(value: Any) -> bool:
    """Accept the start of a group: nil, `"0"`, `"$"`, an event's id, seconds since 1970 or a datetime."""
    if value is None:
        return True
    if type(value) is str:
        return 0 < len(value) <= MAX_SINCE
    if type(value) is datetime:
        try:
            value = value.timestamp()
        except (OverflowError, ValueError, OSError):  # at the ends of the calendar, in some time zones
            return False
    return moment(value)


def published_records(most: int, *, or_sizes: bool = False) -> FieldCheck:
    """Accept a list of `[sequence, previous sequence, record]`, in order; `or_sizes`: a record may be its size."""

    def check(value: Any) -> bool:  # written out for speed: called for each event that arrives
        if type(value) is not list or len(value) > most:
            return False
        last = 0
        for each in value:
            if type(each) is not list or len(each) != 3:
                return False
            sequence, previous, record = each
            if type(sequence) is not int or type(previous) is not int:
                return False
            if type(record) is not bytes and not (or_sizes and type(record) is int and 0 <= record <= MAX_INT):
                return False
            if not 0 <= previous < sequence or sequence <= last:
                return False
            last = sequence
        return last <= MAX_INT

    return check


def check_of(kind: Any) -> FieldCheck:
    """Return the check of a kind."""
    return kind.__metadata__[0] if hasattr(kind, "__metadata__") else kind  # type: ignore[no-any-return]


def checks_of(cls: type) -> tuple[FieldCheck, ...]:
    """Return the checks of a message's fields: each field is `Annotated[type, check]`."""
    hints = get_type_hints(cls, include_extras=True)
    if missing := [name for name, hint in hints.items() if not hasattr(hint, "__metadata__")]:
        raise TypeError(f"{cls.__name__}: no check is declared for the type of {', '.join(missing)}")
    return tuple(map(check_of, hints.values()))
