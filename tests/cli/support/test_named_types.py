"""The named types in an API's signatures, and their fields."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import pytest

from lightbus.cli.support.named_types import named_types
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Street:
    name: str


@dataclass
class Address:
    """Where somebody lives."""

    street: Street
    city: str = "Bern"


@dataclass
class User:
    name: str
    address: Address | None = None
    colour: Colour = Colour.RED
    friends: list[User] = field(default_factory=list)


def schema_of(annotation: Any) -> Any:
    """Return the schema of arguments of which one has a type."""
    signature = Signature(kind="Event", api_name="shop", name="e", parameters=[Parameter("user", annotation)])
    return signature.parameter_schema


def test_fields_and_values() -> None:
    """A type has fields, with their defaults, or values; each type is listed once."""
    types, deeper = named_types([schema_of(User), schema_of(list[Colour])], 1)
    assert [each.name for each in types] == ["User", "Colour"]
    assert [*types[0].lines()] == [
        "name: str",
        "address: Address | None = None",
        'colour: Colour = "red"',
        "friends: list[User] = ...",
    ]
    assert [*types[1].lines()] == ['Literal["red", "blue"]']
    assert deeper == ["Address"]
    assert types[0].as_record()["fields"][0] == {
        "name": "name", "type": "str", "required": True, "default": None, "doc": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "names", "deeper"),
    [
        (0, [], ["User"]),
        (1, ["User"], ["Address", "Colour"]),
        (2, ["User", "Address", "Colour"], ["Street"]),
        (3, ["User", "Address", "Colour", "Street"], []),
        (99, ["User", "Address", "Colour", "Street"], []),
    ],
)
def test_types_are_shown_to_the_wanted_depth(depth: int, names: list[str], deeper: list[str]) -> None:
    """Types of types are listed up to the depth, deeper ones by name; recursive types end."""
    types, more = named_types([schema_of(dict[str, User])], depth)
    assert ([each.name for each in types], more) == (names, deeper)


def test_a_docstring_is_shown() -> None:
    """In its author's words."""
    types, _ = named_types([schema_of(Address)], 1)
    assert types[0].doc == "Where somebody lives."


@pytest.mark.parametrize(
    "schema",
    [
        True,
        None,
        {"$ref": "#/$defs/A"},
        {"$ref": 3, "$defs": {"A": True}},
        {"$ref": "#/$defs/B", "$defs": {"A": True}},
        {"default": {"$ref": "#/$defs/A"}, "$defs": {"A": True}},
        {"$ref": "#/$defs/A", "$defs": []},
    ],
)
def test_what_names_no_type(schema: Any) -> None:
    """Any schema is accepted; a value that looks like a reference is none."""
    assert named_types([schema], 1) == ([], [])


def test_field_with_the_name_of_a_schema_keyword() -> None:
    """It is still a field."""
    schema = {
        "properties": {"default": {"$ref": "#/$defs/A"}, "$ref": {"$ref": "#/$defs/B"}},
        "$defs": {"A": True, "B": {"properties": {"x": False}, "required": 7}},
    }
    types, _ = named_types([schema], 1)
    assert [(each.name, [*each.lines()]) for each in types] == [("A", ["anything"]), ("B", ["x: nothing = ..."])]
