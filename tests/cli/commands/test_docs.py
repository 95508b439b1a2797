"""`lightbus docs`: pages in a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lightbus.cli.commands.docs import docs
from lightbus.exceptions import UnsupportedUse

if TYPE_CHECKING:
    from ..conftest import Commands

NOTHING: dict[str, object] = {"rpcs": {}, "events": {}}


def test_of_the_bus(commands: Commands, tmp_path: Path) -> None:
    """The pages have the APIs with their docstrings."""
    commands.serve("auth").wait_for_line("Ready")
    site = tmp_path / "site"
    assert "1 API is described in" in commands.text("docs", "--out", str(site))
    page = (site / "apis" / "auth.html").read_text("utf-8")
    assert "Users, in memory." in page
    assert "Return whether this is the user&#x27;s password." in page


def test_pages_of_removed_apis_are_removed(tmp_path: Path) -> None:
    """Pages of removed APIs are deleted, but no other files."""
    schemas, site = tmp_path / "schemas.json", tmp_path / "site"

    def write(*apis: str) -> str:
        schemas.write_text(json.dumps(dict.fromkeys(apis, NOTHING)))
        words = ["--schema", str(schemas), "--out", str(site), "--json"]
        return CliRunner().invoke(docs, words, catch_exceptions=False).stdout

    assert json.loads(write("auth", "shop")) == {"index": str(site / "index.html"), "apis": ["auth", "shop"]}
    (site / "apis" / "own.html").write_text("mine")
    write("shop")
    assert {page.name for page in (site / "apis").iterdir()} == {"own.html", "shop.html"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Is named."""
    (tmp_path / "schemas.json").write_text(json.dumps({"auth": NOTHING}))
    words = ["--schema", str(tmp_path / "schemas.json"), "--out", "/dev/null/site"]
    with pytest.raises(UnsupportedUse, match=r"The pages cannot be written to /dev/null/site: .*Name another --out\."):
        CliRunner().invoke(docs, words, catch_exceptions=False)
