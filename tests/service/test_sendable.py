"""Annotations whose values cannot be sent are refused, with the remedy that helps."""

from __future__ import annotations

import collections
import enum
import io
import sys
import typing
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from dataclasses import dataclass
from functools import partialmethod
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic
import pytest

from helpers.values import VALUES
from lightbus import Api, Event, InvalidDeclaration, Parameter, create
from lightbus.service.sendable import why_not_sendable

T = TypeVar("T")

AS_CLASS = "Make it a dataclass or a pydantic model, or give it `__to_bus__` and `__from_bus__`"


class Opaque:
    pass


class Generically(Generic[T]):
    pass


class Place(enum.Enum):
    HOME = (1, 2)


class Holder(enum.Enum):
    IT = object()


@dataclass
class Part:
    inner: list[Opaque]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    inner: dict[str, Opaque]


class Crossed(pydantic.BaseModel):
    left: int = pydantic.Field(validation_alias="right")
    right: int = pydantic.Field(validation_alias="left")


class Withheld(pydantic.BaseModel):
    secret: int = pydantic.Field(exclude=True)


@dataclass
class Chain:
    next: typing.Self | None = None


class Known:
    def __to_bus__(self) -> str:
        return ""


class Loop(pydantic.BaseModel):
    again: Loop | None = None


class Old(typing.TypedDict):
    it: int


@dataclass
class AroundOld:
    old: Old


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later versions of Python have one TypedDict")
def test_typed_dicts_inside_of_classes() -> None:
    """On Python 3.11 pydantic reads only one of the two TypedDicts: the error says which."""
    assert "take `typing_extensions`'s" in str(why_not_sendable(AroundOld))
    assert why_not_sendable(list[Old]) is None


@dataclass
class Letter:
    text: pydantic.Base64Str


class Post(pydantic.BaseModel):
    letter: Letter


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Opaque, f"an Opaque cannot be sent. {AS_CLASS}"),
        (list[Opaque], f"an Opaque cannot be sent. {AS_CLASS}"),
        (Opaque | None, AS_CLASS),
        (Annotated[Opaque, "note"], AS_CLASS),
        (tuple[int, Opaque], AS_CLASS),
        (Mapping[str, Sequence[Opaque]], AS_CLASS),
        (Generically[int], "a Generically cannot be sent"),
        (Part, "of its part Part.inner, an Opaque cannot be sent"),
        (Model, "of its part Model.inner, an Opaque cannot be sent"),
        (Crossed, "Crossed.left is written as 'left', which is read as 'right'. Give each field one name"),
        (Withheld, "Withheld.secret is required and never sent"),
        (Holder, "cannot be sent: value is an object"),
        (Callable, "a function cannot be sent"),
        (Callable[[int], str], "a function cannot be sent"),
        (type[int], "a class cannot be sent: send its name"),
        (Iterator[int], "read once, and by one reader: write list"),
        (AsyncIterator[int], "read once"),
        (bytearray, "it arrives as bytes: write bytes"),
        (dict[str, memoryview], "it arrives as bytes"),
        (bytes | bytearray, "it arrives as bytes"),
        (pydantic.Json, "decoded when it arrives, and never encoded"),
        (list[pydantic.Json[int]], "decoded when it arrives"),
        (pydantic.Base64Bytes, "decoded when it arrives"),
        (tuple[Post, Letter], "decoded when it arrives"),
        (Letter, "Letter.text, outside of a pydantic model it is decoded"),
        (Awaitable[int], "read once"),
        (io.StringIO, "a StringIO cannot be sent"),
        (range, "a range cannot be sent"),
        (ValueError, "a ValueError cannot be sent"),
        (zip, "a zip cannot be sent"),
        (dict[tuple[int, int], str], "keys of tuple[int, int], and on the bus a key is text"),
        (dict[frozenset[int] | str, str], "keys of frozenset[int]"),
        (dict[Place, str], "write list[tuple[key, value]]"),
        (dict[Loop, str], "keys of Loop"),
        (collections.UserDict, "an UserDict cannot be sent"),
        (collections.ChainMap[str, int], "a ChainMap cannot be sent"),
        (KeysView[str], "a view of a dict cannot be sent: write list"),
        (list[ValuesView[int]], "a view of a dict cannot be sent: write list"),
        (typing.Self, "it stands for the Api itself"),
        (list[typing.Self], "it stands for the Api itself"),
        (tuple[int, *tuple[str, ...]], "a part of any length"),
        (pydantic.ImportString, "send its name"),
    ],
    ids=str,
)
def test_unsendable_part_is_named_with_a_replacement(annotation: Any, why: str) -> None:
    """The reason names the part that cannot be sent, and what to write instead."""
    assert why in str(why_not_sendable(annotation))


@pytest.mark.parametrize("annotation", [annotation for annotation, _ in VALUES], ids=lambda each: str(each)[:60])
def test_sendable_annotations_are_not_refused(annotation: Any) -> None:
    """All types that are tested to be received can be declared."""
    assert why_not_sendable(annotation) is None


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            Any,
            object,
            None,
            T,
            "Missing",
            Known,
            Loop,
            Chain,
            Place,
            Literal[Place.HOME],
            Iterable[int],
            Iterable,
            Sequence,
        ),
        *(list, dict, dict[Any, int], typing.List, typing.Hashable, typing.AnyStr, str),  # noqa: UP006
        *(Annotated[Opaque, pydantic.SkipValidation], pydantic.BaseModel, enum.Enum),
    ],
    ids=str,
)
def test_open_annotations_are_not_refused(annotation: Any) -> None:
    """Annotations whose values are unknown do not prevent a service from starting."""
    assert why_not_sendable(annotation) is None


def _api(**members: Any) -> Api:
    made: Api = type("Made", (Api,), {"Meta": type("Meta", (), {"name": "shop"}), **members})()
    return made


def _taking(self: Any, it: list[Opaque]) -> None: ...


def _returning(self: Any) -> Iterator[int]: ...  # type: ignore[empty-body]


def _yielding(self: Any) -> Any:
    yield 1


async def _yielding_async(self: Any) -> Any:
    yield 1


def _taking_more(self: Any, **rest: Opaque) -> None: ...


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"f": _taking}, r"shop\.f: 'it' is annotated with list\[Opaque\], and an Opaque cannot be sent"),
        ({"f": _returning}, r"shop\.f: the result is annotated with .*Iterator\[int\], and it is read once"),
        ({"f": _yielding}, r"shop\.f has a `yield` in it, .* Return a list"),
        ({"f": _yielding_async}, r"shop\.f has a `yield` in it"),
        ({"f": staticmethod(lambda: (yield 1))}, r"shop\.f has a `yield` in it"),
        ({"f": partialmethod(_yielding)}, r"shop\.f has a `yield` in it"),
        ({"f": _taking_more}, r"shop\.f: 'rest' is annotated with Opaque"),
        ({"e": Event([Parameter("it", Opaque)])}, r"shop\.e: 'it' is annotated with Opaque"),
    ],
)
def test_unsendable_api_is_refused_at_registration(members: Any, text: str) -> None:
    """For parameters, results, further arguments and events: nothing of such an Api is registered."""
    bus = create(service_name="shop")
    with pytest.raises(InvalidDeclaration, match=text):
        bus.client.register_api(_api(**members))
    assert not bus.client.api_registry.all()
    assert not bus.schema.api_names
