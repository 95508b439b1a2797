"""`lightbus openapi` and `lightbus asyncapi`: the source of the APIs, and the output of the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from lightbus.cli.commands.asyncapi import asyncapi
from lightbus.cli.commands.openapi import openapi
from lightbus.exceptions import UnknownApi, UnsupportedUse

from ..conftest import SERVICES

if TYPE_CHECKING:
    from ..conftest import Commands

SCHEMAS = {
    "auth": {"rpcs": {"check": {"parameters": {"type": "object"}, "response": {"type": "boolean"}}}, "events": {}},
    "shop.orders": {"rpcs": {}, "events": {"placed": {"parameters": {"type": "object"}}}},
}


def test_of_the_bus_a_module_and_a_file(commands: Commands, tmp_path: Path) -> None:
    """All three have the same schemas; bus and module add what schemas lack."""
    commands.serve("auth").wait_for_line("Ready")
    (tmp_path / "anywhere" / "auth_bus.py").write_text(SERVICES["auth"].replace("{version}", "1"))
    schemas, written = str(tmp_path / "schemas.json"), tmp_path / "api.yaml"
    commands.run("dumpschema", "--out", schemas)
    of_bus = json.loads(commands.text("asyncapi"))
    commands.run("asyncapi", "--bus", "auth_bus", "--out", str(written))
    assert yaml.safe_load(written.read_text()) == of_bus
    of_file = json.loads(commands.text("asyncapi", "--schema", schemas))
    assert of_file["components"] == of_bus["components"]
    assert of_bus["operations"]["auth.user_registered"]["x-lightbus-key"] == "username"
    assert [*json.loads(commands.text("openapi", "--json"))["paths"]] == [
        "/auth/check_password",
        "/auth/echo",
        "/auth/fail",
    ]


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    """Return a file that `dumpschema` could have written."""
    file = tmp_path / "schemas.json"
    file.write_text(json.dumps(SCHEMAS))
    return str(file)


def run(*words: str) -> Result:
    """Run `lightbus openapi` in this process; its exceptions are raised."""
    return CliRunner().invoke(openapi, words, catch_exceptions=False)


def test_formats_of_the_document(schemas: str, tmp_path: Path) -> None:
    """JSON or YAML, by the file's name or an option, with title and version; of some APIs only."""
    given = ("--schema", schemas, "--title", "All", "--version", "7", "--server", "https://api.example.com")
    document = json.loads(run(*given).stdout)
    assert document["info"] == {"title": "All", "version": "7"}
    assert document["servers"] == [{"url": "https://api.example.com"}]
    assert yaml.safe_load(run(*given, "--yaml").stdout) == document
    assert len(run(*given, "--json").stdout.splitlines()) == 1
    file = tmp_path / "new" / "api.yml"
    assert run(*given, "--out", str(file)).stdout == ""
    assert yaml.safe_load(file.read_text()) == document
    some = json.loads(run("--schema", schemas, "--api", "shop.*", "--api", "no").stdout)
    assert (some["info"]["title"], some["paths"], [*some["webhooks"]]) == ("shop.orders", {}, ["shop.orders.placed"])
    asynchronous = CliRunner().invoke(asyncapi, ["--schema", schemas]).stdout
    assert [*json.loads(asynchronous)["operations"]] == ["auth.check", "shop.orders.placed"]


def test_refusal_says_what_can_be_done(schemas: str) -> None:
    """Impossible options are refused with the possible ones."""
    with pytest.raises(UnsupportedUse, match="--bus and --schema were both given: name one of them"):
        run("--bus", "bus", "--schema", schemas)
    with pytest.raises(UnsupportedUse, match=r"The document cannot be written to /dev/null/a\.json"):
        run("--schema", schemas, "--out", "/dev/null/a.json")
    with pytest.raises(UnsupportedUse, match=r"There is no gone\.json"):
        run("--schema", "gone.json")
    with pytest.raises(UnknownApi, match=r"No API matches no\. There are: auth, shop\.orders\."):
        run("--schema", schemas, "--api", "no")
