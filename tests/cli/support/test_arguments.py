"""Arguments as they stand on a command line."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from lightbus import InvalidArguments
from lightbus.cli.support.arguments import parse_arguments

SCHEMA = {
    "properties": {
        "text": {"type": "string"},
        "number": {"type": "number"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "named": {"$ref": "#/$defs/Named"},
        "any": {},
    },
    "$defs": {"Named": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("any=admin", "admin"),
        ("any=", ""),
        ("any=12", 12),
        ("any=a=b", "a=b"),
        ('any={"a": [1]}', {"a": [1]}),
        ("any=null", None),
        ("text=12", "12"),
        ("text=true", "true"),
        ('text="12"', "12"),
        ("number=12", 12),
        ("number=twelve", "twelve"),
        ("maybe=null", None),
        ("maybe=12", "12"),
        ('named={"a": 1}', {"a": 1}),
        ("unknown=12", 12),
        (f"unknown={'[' * 100_000}", "[" * 100_000),
    ],
)
def test_value_is_json_where_it_parses_else_text(word: str, expected: Any) -> None:
    """A value is JSON if it parses, else text; if both are valid, the schema decides."""
    assert parse_arguments([word], SCHEMA) == {word.partition("=")[0]: expected}


def test_objects_from_files_and_stdin_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, standard input and objects give several arguments, which are merged."""
    file = tmp_path / "all.json"
    file.write_text('{"a": 1}')
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"b": 2}'))
    assert parse_arguments([f"@{file}", "-", '{"c": 3}', "d=4"], {}) == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_value_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from a file or standard input is read as one on the command line."""
    file = tmp_path / "value"
    file.write_text("[1, 2]")
    monkeypatch.setattr(sys, "stdin", io.StringIO("plain text\n"))
    assert parse_arguments([f"any=@{file}", "text=-"], SCHEMA) == {"any": [1, 2], "text": "plain text\n"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["admin"], "'admin' is not an argument. Write name=value"),
        (["=1"], "is not an argument"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=1", '{"a": 2}'], "'a' is given twice"),
        (["{nonsense"], "holds no JSON"),
        (['{"a":' * 100_000], "holds no JSON"),
        (["@/nowhere/at/all"], "cannot be read"),
        (["a=@/nowhere/at/all"], "cannot be read"),
    ],
)
def test_meaningless_arguments_are_refused_with_the_reason(words: list[str], reason: str) -> None:
    """What cannot be meant is refused with the reason."""
    with pytest.raises(InvalidArguments, match=reason):
        parse_arguments(words, {})


def test_list_is_no_object(tmp_path: Path) -> None:
    """All arguments together have to be an object."""
    file = tmp_path / "list.json"
    file.write_text("[1]")
    with pytest.raises(InvalidArguments, match="is not a JSON object"):
        parse_arguments([f"@{file}"], {})
