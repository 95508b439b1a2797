"""Parse times on the command line: a date and time, or how long ago."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from ...client.listening import moment

__all__ = ["parse_since", "parse_time"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str | None) -> str | datetime | None:
    """Parse `--since`: `"0"`, an event's id or a time. Raises BadParameter for any other text."""
    try:
        return None if text is None else _ago(text) or moment(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'{text!r:.100} is neither an id of an event nor a date and time. Write "0" for everything that is kept, '
            'an id as `lightbus tail --json` shows it, a time: "2026-01-31 12:00", or how long ago: 10m, 2h, 3d.',
            param_hint="--since",
        ) from None


def parse_time(text: str | None, option: str) -> float | None:
    """Parse a time; return it in seconds since 1970. Raises BadParameter for any other text."""
    try:
        if text is None:
            return None
        return (_ago(text) or datetime.fromisoformat(text).astimezone()).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'{text!r:.100} is not a time. Write a date and time: "2026-01-31 12:00", or how long ago: 10m, 2h, 3d.',
            param_hint=option,
        ) from None


def _ago(text: str) -> datetime | None:
    found = _AGO.fullmatch(text.strip())
    return None if found is None else datetime.now().astimezone() - timedelta(**{_UNITS[found[2]]: float(found[1])})
