"""JSON Schemas of values as the bus carries them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag
from typing import Any, Literal, NamedTuple

import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, Field, TypeAdapter

from lightbus.service.format_names import COMPLEX, DECIMAL
from lightbus.service.from_wire import from_wire
from lightbus.service.json_forms import json_schema_of


def form_of(annotation: Any) -> dict[str, Any]:
    """Return the JSON Schema of the sent values of an annotation."""
    return dict(json_schema_of(from_wire(TypeAdapter(annotation).core_schema)))


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Corner(Enum):
    TOP = (0, 1)
    LOW = (0, 0)


class Access(Flag):
    READ = 1
    WRITE = 2


class Right(IntFlag):
    READ = 1


class Place(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    name: str = Field(validation_alias=AliasChoices("name", "title"))
    deep: int = Field(default=0, validation_alias=AliasPath("more", "deep"))


class NeedsOneOf(pydantic.BaseModel):
    place: int = Field(validation_alias=AliasChoices("place", AliasPath("at", 0)))
    plain: int


class Callback(pydantic.BaseModel):
    call: Callable[[int], int]


def test_decimals_and_complex_numbers_are_texts() -> None:
    """Each with its own format, and without a pattern that would refuse an exponent."""
    choices = form_of(Decimal)["anyOf"]
    assert {"type": "string", "format": DECIMAL} in choices
    assert all("pattern" not in choice for choice in choices)
    assert form_of(complex) == {"type": "string", "format": COMPLEX}


@pytest.mark.parametrize("kind", [Access, Right])
def test_flags_are_sums(kind: type[Flag]) -> None:
    """All sums, not only the members."""
    assert form_of(kind) == {"title": kind.__name__, "type": "integer"}


def test_enums_are_their_values() -> None:
    """As in JSON: a tuple is an array."""
    assert form_of(Colour)["enum"] == ["red", "blue"]
    assert form_of(Level)["enum"] == [1, 2]
    assert form_of(Corner) == {"title": "Corner", "enum": [[0, 1], [0, 0]]}


def test_literals_are_the_sent_values() -> None:
    """Members of an Enum by their values."""
    assert form_of(Literal["a", 1])["enum"] == ["a", 1]
    assert sorted(form_of(Literal[Colour.RED, "b"])["enum"]) == ["b", "red"]


def test_keys_are_texts_in_json() -> None:
    """Keys of an IntEnum are numbers as text; other keys are not described."""
    assert form_of(dict[Level, int])["propertyNames"] == {"enum": ["1", "2"]}
    assert form_of(dict[Colour, int])["propertyNames"] == {"enum": ["red", "blue"]}
    assert "propertyNames" not in form_of(dict[Access, int])
    nested = form_of(list[dict[Level, int]])
    assert nested["items"]["propertyNames"] == {"enum": ["1", "2"]}


def test_a_named_tuple_is_an_object_or_an_array() -> None:
    """Items left out at its end have a default."""
    form = form_of(Place)
    assert form["type"] == ["object", "array"]
    assert [*form["properties"]] == ["x", "y"]
    assert form["required"] == ["x"]
    assert (form["minItems"], form["maxItems"]) == (1, 2)


def test_a_dataclass_is_an_object() -> None:
    """With the names of its fields, without a title for each."""
    form = form_of(Point)
    assert (form["type"], form["required"]) == ("object", ["x"])
    assert form["properties"]["x"] == {"type": "integer"}


def test_each_name_of_a_field_is_allowed() -> None:
    """A field with several names is required under one of them."""
    form = form_of(Model)
    assert {"name", "title"} <= form["properties"].keys()
    assert form["allOf"] == [{"anyOf": [{"required": ["name"]}, {"required": ["title"]}]}]
    assert "required" not in form


def test_other_fields_stay_required() -> None:
    """Also if one of them has several names, or paths."""
    form = form_of(NeedsOneOf)
    assert form["required"] == ["plain"]
    assert form["allOf"] == [{"anyOf": [{"required": ["place"]}, {"required": ["at"]}]}]
    assert form["properties"]["at"] == {}


def test_values_without_a_json_form_accept_anything() -> None:
    """They may be sent in a form that only their class knows."""
    assert form_of(Callable[[int], int]) == {}
    assert form_of(Callback)["properties"]["call"] == {}


def test_models_have_no_titles_of_fields() -> None:
    """Titles would only repeat the names."""
    assert "title" not in form_of(Point)["properties"]["y"]
