"""Points in time on the command line: dates, ids, and how long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from lightbus.cli.support.moments import parse_since, parse_time


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90.0), ("10m", 600.0), ("10min", 600.0), ("1.5h", 5400.0), (" 2 d ", 172_800.0)]
)
def test_how_long_ago(text: str, ago: float) -> None:
    """A number and a unit count back from now, at both kinds of option."""
    before = datetime.now(UTC)
    since, at = parse_since(text), parse_time(text, "--until")
    after = datetime.now(UTC)
    assert isinstance(since, datetime)
    assert at is not None
    for moment in (since, datetime.fromtimestamp(at, UTC)):
        assert before <= moment + timedelta(seconds=ago) + timedelta(milliseconds=1)
        assert moment + timedelta(seconds=ago) <= after + timedelta(milliseconds=1)


def test_dates_and_ids() -> None:
    """A date and time is local time; an event's id and 0 are valid only for --since."""
    assert parse_time("2026-01-31 12:00+00:00", "--since") == datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert parse_since("2026-01-31 12:00+00:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (parse_since("0"), parse_since(f"{7:016x}-1")) == ("0", f"{7:016x}-1")
    assert (parse_since(None), parse_time(None, "--since")) == (None, None)


@pytest.mark.parametrize("text", ["yesterday", "", "10 fortnights", "9999999999999d", "2026-13-01"])
def test_invalid_time(text: str) -> None:
    """It is refused, with the valid forms."""
    for parse in (lambda: parse_since(text), lambda: parse_time(text, "--until")):
        with pytest.raises(click.BadParameter, match="or how long ago: 10m, 2h, 3d"):
            parse()
