"""A finding: its level, and its JSON fields."""

from __future__ import annotations

from lightbus.cli.checks.finding import Finding, Level


def test_levels_are_exit_codes() -> None:
    """The worst one counts, and a finding that is well counts for nothing."""
    assert [int(level) for level in (Level.OK, Level.WARNING, Level.ERROR)] == [0, 1, 2]
    assert max(Level.OK, Level.ERROR, Level.WARNING) is Level.ERROR


def test_finding_as_a_program_reads_it() -> None:
    """All fields are text; without a remedy the field is empty."""
    finding = Finding(level=Level.WARNING, check="names", text="2 processes are called 'auth'.")
    assert finding.fields() == {
        "level": "warning",
        "check": "names",
        "text": "2 processes are called 'auth'.",
        "remedy": "",
    }
