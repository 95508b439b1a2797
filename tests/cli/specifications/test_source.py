"""The source of a specification's APIs, and the output of the document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lightbus.cli.specifications.source import SpecificationSource, write_document
from lightbus.cli.support.options import ClientOptions
from lightbus.cli.support.output import Output
from lightbus.exceptions import UnknownApi, UnsupportedUse

SCHEMAS = {name: {"rpcs": {}, "events": {}} for name in ("auth", "shop.orders", "shop.stock")}


def chosen(tmp_path: Path, *patterns: str) -> list[str]:
    """Return the names of the APIs chosen from a file."""
    file = tmp_path / "schemas.json"
    file.write_text(json.dumps(SCHEMAS))
    given: list[str] = []
    source = SpecificationSource(options=ClientOptions(), module=None, schema=file, patterns=patterns)
    source.give(lambda apis, output: given.extend(apis))
    return given


def test_apis_are_chosen_by_patterns(tmp_path: Path) -> None:
    """All without a pattern; if none matches, the error lists the existing ones."""
    assert chosen(tmp_path) == ["auth", "shop.orders", "shop.stock"]
    assert chosen(tmp_path, "shop.*") == ["shop.orders", "shop.stock"]
    with pytest.raises(UnknownApi, match=r"No API matches nothing\. There are: auth, shop\.orders, shop\.stock\."):
        chosen(tmp_path, "nothing")


def test_two_sources_are_refused(tmp_path: Path) -> None:
    """A module or a file, not both."""
    source = SpecificationSource(options=ClientOptions(), module="bus", schema=tmp_path, patterns=())
    with pytest.raises(UnsupportedUse, match="--bus and --schema were both given"):
        source.give(lambda apis, output: None)


def test_the_form_is_that_of_the_file_or_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML by the file's suffix, by -o or by --yaml; else JSON."""
    document = {"a": [1]}
    write_document(document, tmp_path / "new" / "d.yaml", Output(), as_yaml=False)
    assert yaml.safe_load((tmp_path / "new" / "d.yaml").read_text()) == document
    for output, as_yaml in ((Output(), True), (Output(as_json=True, form="yaml"), False)):
        write_document(document, None, output, as_yaml=as_yaml)
        assert capsys.readouterr().out == "a:\n- 1\n"
    write_document(document, None, Output(as_json=True), as_yaml=False)
    assert capsys.readouterr().out == '{"a": [1]}\n'
