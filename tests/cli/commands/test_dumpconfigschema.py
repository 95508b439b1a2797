"""`lightbus dumpconfigschema`: to standard output or a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lightbus.cli.commands.dumpconfigschema import dumpconfigschema
from lightbus.config import config_schema
from lightbus.exceptions import UnsupportedUse


def test_schema_goes_to_standard_output_or_a_file(tmp_path: Path) -> None:
    """Either has the same schema, that of the settings."""
    file = tmp_path / "schema.json"
    shown = CliRunner().invoke(dumpconfigschema, [])
    written = CliRunner().invoke(dumpconfigschema, ["--out", str(file)])
    assert (shown.exit_code, written.exit_code, written.output) == (0, 0, "")
    assert json.loads(shown.output) == json.loads(file.read_text()) == config_schema()


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is an error with the reason and the option to change, and no traceback."""
    with pytest.raises(UnsupportedUse, match=r"cannot be written to .*/nowhere/x: No such file .*Name another --out"):
        CliRunner().invoke(dumpconfigschema, ["--out", str(tmp_path / "nowhere" / "x")], catch_exceptions=False)
