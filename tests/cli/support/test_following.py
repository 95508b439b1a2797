"""Following events: what --since means. The rest is tested with `lightbus tail` and `record`, against real workers."""

from __future__ import annotations

from datetime import datetime

import click
import pytest

from lightbus.cli.support.following import moment_given


def test_since() -> None:
    """A time, an id, all, or nothing; what is none of them is refused, with what can be written."""
    assert moment_given(None) is None
    assert moment_given("0") == "0"
    assert isinstance(moment_given("2026-01-31 12:00"), datetime)
    with pytest.raises(click.BadParameter, match=r"'yesterday' is no id of an event, and no date and time\. Write"):
        moment_given("yesterday")
