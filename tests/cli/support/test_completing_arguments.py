"""Completions for the arguments of a call or an event, from a schema, as each shell splits words."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.cli.support.completing_arguments import argument_words

SCHEMA = {
    "properties": {
        "user": {"type": "string"},
        "active": {"type": "boolean", "default": True},
        "colour": {"anyOf": [{"$ref": "#/$defs/Colour"}, {"type": "null"}], "default": None},
        "size": {"enum": [1, "extra large", "s\nm"], "type": ["integer", "string"]},
        "$(rm)": {},
    },
    "required": ["user", "size"],
    "$defs": {"Colour": {"enum": ["red", "rose", "blue"]}},
}


@pytest.mark.parametrize(
    ("given", "incomplete", "words"),
    [
        # Names: those that are needed come first, and none is given twice.
        ((), "", ["user=", "size=", "active=", "colour="]),
        ((), "u", ["user="]),
        (("user=ada", "size=1"), "", ["active=", "colour="]),
        (("user", "=", "ada"), "", ["size=", "active=", "colour="]),
        # Values: as zsh and fish have the word,
        ((), "active=", ["active=true", "active=false"]),
        (("user=ada",), "active=f", ["active=false"]),
        ((), "colour=r", ["colour=red", "colour=rose"]),
        ((), "colour=n", ["colour=null"]),
        ((), "size=", ["size=1", "size='extra large'"]),
        ((), "user=", []),
        ((), "none=", []),
        # and as bash has it.
        (("active",), "", ["true", "false"]),
        (("user", "=", "ada", "active", "="), "f", ["false"]),
        (("user=ada", "colour", "="), "b", ["blue"]),
        (("=",), "b", []),
    ],
)
def test_argument_names_and_enum_values_are_completed(
    given: tuple[str, ...], incomplete: str, words: list[str]
) -> None:
    """Names end with an equals sign; values are those listed in the schema."""
    assert argument_words(SCHEMA, given, incomplete) == words


LOOP = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": []}, {"properties": {"a": True}}, {"properties": {"a": {"enum": 3, "anyOf": {}}}}, LOOP],
)
def test_a_schema_without_information(schema: Any) -> None:
    """Then there is nothing to offer, and no error disturbs the typed line."""
    assert argument_words(schema, (), "a=") == []
