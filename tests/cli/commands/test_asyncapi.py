"""`lightbus asyncapi` of a file; of the bus and a module it is tested beside `openapi`."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from lightbus.cli.commands.asyncapi import asyncapi

SCHEMAS = {"shop": {"rpcs": {}, "events": {"placed": {"parameters": {"type": "object"}}}}}


def test_title_version_and_form(tmp_path: Path) -> None:
    """The title is the given one, else the APIs' names; JSON, or YAML if asked for."""
    file = tmp_path / "schemas.json"
    file.write_text(json.dumps(SCHEMAS))
    written = CliRunner().invoke(asyncapi, ["--schema", str(file)], catch_exceptions=False).output
    document = json.loads(written)
    assert (document["asyncapi"][:2], document["info"]["title"]) == ("3.", "shop")
    words = ["--schema", str(file), "--title", "Orders", "--version", "7", "--yaml"]
    document = yaml.safe_load(CliRunner().invoke(asyncapi, words, catch_exceptions=False).output)
    assert (document["info"]["title"], document["info"]["version"]) == ("Orders", "7")
