"""Schemas assembled from single annotations equal those that are compiled together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, Optional, TypedDict, TypeVar, Union

import pydantic
import pytest

from lightbus.service import casting, describing
from lightbus.service.casting import Caster

T = TypeVar("T")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class User:
    name: str
    colour: Colour = Colour.RED


@dataclass
class Tree:
    user: User
    parts: list[Tree]


class Box(pydantic.BaseModel, Generic[T]):
    it: T


class Row(TypedDict):
    user: User


def other_user() -> type:
    @dataclass
    class User:
        number: int

    return User


def a_class_named_values() -> type:
    @dataclass
    class Values:
        number: int

    return Values


Other: Any = other_user()
Values: Any = a_class_named_values()

ANNOTATIONS: Mapping[str, Mapping[str, Any]] = {
    "builtins": {"a": int, "b": str, "c": Any, "d": None, "e": bytes},
    "containers": {"a": list[str], "b": dict[str, list[int]], "c": tuple[int, ...], "d": set[str]},
    "unions": {"a": Union[int, str], "b": Union[str, int], "c": int | str, "d": str | int},  # noqa: UP007
    "optional": {"a": Optional[int], "b": Union[None, int]},  # noqa: UP007, UP045
    "literals that are equal": {"a": Literal[1], "b": Literal[True], "c": list[Literal[1]], "d": list[Literal[True]]},
    "one class, often": {"a": User, "b": list[User], "c": dict[str, User] | None, "d": Box[User]},
    "several classes": {"a": Level, "b": Colour, "c": Tree, "d": User},
    "classes of one name": {"a": User, "b": Other},
    "classes of one name in generics": {"a": Box[User], "b": Box[Other]},
    "classes of one name inside": {"a": Tree, "b": list[Other]},
    "a class with the name of the holder": {"a": Values, "b": int},
    "keys": {"a": dict[Level, int], "b": dict[Colour, User]},
    "typed dicts": {"a": Row, "b": list[Row], "c": User},
    "constraints": {"a": Annotated[int, pydantic.Field(gt=0)], "b": Annotated[int, pydantic.Field(gt=1)], "c": int},
    "an alias": {"a": Annotated[int, pydantic.Field(alias="z")], "b": int},
    "no class": {"a": "Missing", "b": list[User]},
}


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_assembled_schema_equals_the_compiled_one(
    name: str, backwards: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever annotations were described before."""
    monkeypatch.setattr(describing, "_described", {})
    annotations = dict(ANNOTATIONS[name])
    if backwards:
        annotations = dict(reversed(annotations.items()))
    for each in annotations.values():
        Caster({"alone": each}, what="x")
    put_together = Caster(annotations, what="x")

    def not_described(*_: Any) -> None:
        return None

    monkeypatch.setattr(casting, "described", not_described)
    whole = Caster(annotations, what="x")
    assert _text(put_together) == _text(whole)


def test_unions_in_another_order_are_another_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """`int | str` and `str | int` are equal in Python, and described in the written order."""
    monkeypatch.setattr(describing, "_described", {})
    schema = Caster({"a": int | str, "b": str | int}, what="x").properties
    assert [each["type"] for each in schema["a"]["anyOf"]] == ["integer", "string"]
    assert [each["type"] for each in schema["b"]["anyOf"]] == ["string", "integer"]


def test_returned_schemas_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing the schema of one value does not change that of another with the same annotation."""
    monkeypatch.setattr(describing, "_described", {})
    one, other = Caster({"a": list[int]}, what="x"), Caster({"a": list[int]}, what="x")
    one.properties["a"]["items"]["type"] = "string"
    assert other.properties["a"]["items"]["type"] == "integer"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that keeps creating classes can release them."""
    known: dict[Any, Any] = {}
    monkeypatch.setattr(describing, "_described", known)
    monkeypatch.setattr(describing, "_KEPT", 3)
    for number in range(10):
        Caster({"a": Literal[number]}, what="x")
        assert 1 <= len(known) <= 3


def _text(caster: Caster) -> str:
    return json.dumps([caster.properties, caster.definitions], sort_keys=True)
