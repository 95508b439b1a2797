"""How changes are shown."""

from __future__ import annotations

import json

import pytest

from lightbus.cli.schemas.changes import SchemaChange
from lightbus.cli.schemas.reporting import report
from lightbus.cli.support.output import Output

NEW = SchemaChange(api="auth", member="find", kind="procedure", change="the procedure is new")
GONE = SchemaChange(api="auth", member=None, kind="api", change="the API is gone", breaks=("callers", "publishers"))


def test_breaking_changes_come_first_with_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    """Breaking changes come first, and are counted."""
    report(Output(), [NEW, GONE])
    report(Output(), [NEW])
    report(Output(), [])
    assert capsys.readouterr().out.splitlines() == [
        "breaks callers and publishers  auth: the API is gone",
        "compatible  auth.find: the procedure is new",
        "2 changes, 1 breaking.",
        "compatible  auth.find: the procedure is new",
        "1 change, 0 breaking.",
        "Nothing has changed.",
    ]


def test_each_change_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An object a line."""
    report(Output(as_json=True), [GONE])
    told = json.loads(capsys.readouterr().out)
    assert (told["member"], told["breaks"]) == (None, ["callers", "publishers"])
