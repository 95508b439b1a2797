"""Casting to annotations, and their JSON Schema."""

from __future__ import annotations

import logging
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pydantic
import pytest

from lightbus.exceptions import ValidationError
from lightbus.service.casting import Caster, CastFailed
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature
from lightbus.wire.codec import decode, encode


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Money:
    """Has its own form on the bus."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Money({self.cents})"  # no address: test ids contain this text and must be stable

    def __to_bus__(self) -> int:
        return self.cents

    @classmethod
    def __from_bus__(cls, value: Any) -> Money:
        return cls(int(value))


class Opaque:
    pass


class Pair(NamedTuple):
    left: int
    right: Money | None = None


@dataclass
class Line:
    price: Money
    tags: set[str] = field(default_factory=set)


@dataclass
class Order:
    placed: datetime
    lines: list[Line]
    parent: Order | None = None


class Options(typing.TypedDict, total=False):
    colour: typing.Required[Colour]
    size: int
    inner: list[Options2]


class Options2(typing.TypedDict):
    level: Level


class Folder(typing.TypedDict):
    name: str
    parent: typing.NotRequired[Folder]
    links: typing.NotRequired[dict[str, Link | None]]


class Link(typing.TypedDict):
    to: list[Folder]


class Customer(pydantic.BaseModel):
    mail: str = pydantic.Field(alias="e-mail")
    born: date


@dataclass
class Coded:
    """A dataclass with its own form."""

    code: str

    def __to_bus__(self) -> str:
        return self.code

    @classmethod
    def __from_bus__(cls, value: str) -> Coded:
        return cls(value)


@dataclass
class Odd:
    """Has a meaningless annotation."""

    thing: Missing  # type: ignore[name-defined] # noqa: F821


def caster(annotation: Any) -> Caster:
    return Caster({"it": annotation}, what="auth.f")


def schema_of(annotation: Any) -> Any:
    return caster(annotation).properties["it"]


ORDER = Order(datetime(2026, 1, 2, tzinfo=UTC), [Line(Money(5), {"a"})], parent=Order(datetime(2026, 1, 1), []))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Order, ORDER),
        (list[Order], [ORDER]),
        (dict[str, Order | None], {"a": ORDER, "b": None}),
        (Pair, Pair(1, Money(2))),
        (Pair, Pair(1)),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (tuple[int, str], (1, "a")),
        (tuple[Money, ...], (Money(1), Money(2))),
        (Colour, Colour.RED),
        (dict[Colour, int], {Colour.RED: 1}),
        (Level | None, Level.HIGH),
        (Literal["a", 1], 1),
        (Money, Money(3)),
        (typing.Optional[Money], Money(3)),  # noqa: UP045
        (Annotated[list[Money], "note"], [Money(3)]),
        (Coded, Coded("x")),
        (list[Coded], [Coded("x")]),
        (Customer, Customer(**{"e-mail": "a@b", "born": date(2000, 1, 1)})),
        (datetime, datetime(2026, 1, 2, 3, 4)),
        (date, date(2026, 1, 2)),
        (time, time(3, 4)),
        (timedelta, timedelta(days=-1, seconds=5)),
        (UUID, UUID(int=9)),
        (Decimal, Decimal("1E+3")),
        (complex, complex(1, 2)),
        (bytes, b"\xff\x00"),
        (Any, {"a": [1]}),
        (Options, {"colour": Colour.RED, "inner": [{"level": Level.HIGH}]}),
        (list[Options | None], [{"colour": Colour.RED}, None]),
        (Folder, {"name": "a", "parent": {"name": "b", "links": {"x": {"to": [{"name": "c"}]}, "y": None}}}),
        (list[Link], [{"to": [{"name": "a", "links": {"x": {"to": []}}}]}]),
    ],
    ids=str,
)
def test_sent_values_are_cast_back(annotation: Any, value: Any) -> None:
    """An encoded and decoded value is cast back to the original."""
    arrived = decode(encode(value))
    assert caster(annotation).cast({"it": arrived}) == {"it": value}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (UUID, "00000000-0000-0000-0000-000000000009", UUID(int=9)),
        (Decimal, "1.50", Decimal("1.50")),
        (timedelta, "PT90S", timedelta(seconds=90)),
        (complex, "1+2j", complex(1, 2)),
    ],
)
def test_text_is_cast_to_its_type(annotation: Any, text: str, value: Any) -> None:
    """The command line and untyped callers send text."""
    assert caster(annotation).cast({"it": text}) == {"it": value}


@dataclass
class Defaulted:
    note: str = None  # type: ignore[assignment]
    lines: list[int] = None  # type: ignore[assignment]


class DefaultedTuple(NamedTuple):
    note: str = None  # type: ignore[assignment]


class DefaultedModel(pydantic.BaseModel):
    note: str = None  # type: ignore[assignment]
    inner: Defaulted = None  # type: ignore[assignment]


@pydantic.dataclasses.dataclass
class DefaultedPydantic:
    note: str = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value",
    [Defaulted(), DefaultedTuple(), DefaultedModel(), DefaultedModel(inner=Defaulted()), DefaultedPydantic()],
    ids=lambda value: type(value).__name__,
)
def test_none_as_a_default_can_be_sent(value: Any) -> None:
    """An object created without the field is sent and received, alone and in a list."""
    kind = type(value)
    for annotation, sent in ((kind, value), (list[kind], [value]), (kind | None, value)):  # type: ignore[valid-type]
        signature = Signature(kind="RPC", api_name="a", name="f", parameters=[Parameter("it", annotation)])
        signature.validate({"it": sent})
        assert signature.cast(decode(encode({"it": sent}))) == {"it": sent}
        with pytest.raises(ValidationError, match="note"):
            signature.cast({"it": [{"note": [5]}] if isinstance(sent, list) else {"note": [5]}})


def test_matching_objects_are_returned_unchanged() -> None:
    """Casting twice changes nothing."""
    money = Money(3)
    assert caster(list[Money]).cast({"it": [money]})["it"][0] is money


def test_values_without_annotation_are_unchanged() -> None:
    """Arguments of a wildcard are passed on."""
    assert caster(int).cast({"it": 1, "other": (2,)}) == {"it": 1, "other": (2,)}
    assert caster(int).cast({}) == {}


def test_unknown_classes_accept_any_value() -> None:
    """A class without `__from_bus__` is no reason to refuse a value."""
    assert caster(Opaque | None).cast({"it": {"a": 1}}) == {"it": {"a": 1}}
    assert schema_of(Opaque) == {}
    assert schema_of(list[Opaque]) == {"type": "array", "items": {}}


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, "x", "it is 'x', but input should be a valid integer"),
        (list[Order], [{"placed": "2026-01-01", "lines": [{"price": "x"}]}], "it[0].lines[0].price is 'x', but Money"),
        (Pair, {"right": 1}, "it.left is {'right': 1}, but"),
        (Colour, "blue", "it is 'blue', but input should be 'red'"),
        (Folder, {"name": "a", "parent": {}}, "it.parent.name is {}, but field required"),
        (Folder, {"name": "a", "links": {"x": {"to": [{"name": []}]}}}, "it.links.x.to[0].name is [], but"),
    ],
    ids=str,
)
def test_a_failure_names_the_place_and_the_value(annotation: Any, value: Any, text: str) -> None:
    """The first value that cannot be cast is reported with its path."""
    with pytest.raises(CastFailed) as caught:
        caster(annotation).cast({"it": value})
    assert str(caught.value).startswith(text)


def test_exception_in_the_users_code_is_a_cast_failure() -> None:
    """The exception of a `__post_init__` is not raised as it is."""

    @dataclass
    class Picky:
        a: int

        def __post_init__(self) -> None:
            raise KeyError("never")

    with pytest.raises(CastFailed, match="casting raised KeyError: 'never'"):
        caster(Picky).cast({"it": {"a": 1}})


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Any, {}),
        (Money, {"type": "integer"}),
        (list[Money], {"type": "array", "items": {"type": "integer"}}),
        (Decimal, {"anyOf": [{"type": "number"}, {"type": "string", "format": "decimal"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (Callable[[int], str], {}),
    ],
    ids=str,
)
def test_json_schema_of_annotations(annotation: Any, schema: Any) -> None:
    """Annotations give the JSON Schema of the sent values."""
    assert schema_of(annotation) == schema


def test_a_dataclass_with_a_form_of_its_own_has_the_schema_of_that() -> None:
    """The return annotation of `__to_bus__` gives the schema."""
    made = caster(dict[str, Coded])
    assert made.properties["it"]["additionalProperties"] == {"$ref": "#/$defs/Coded"}
    assert made.definitions == {"Coded": {"type": "string"}}


def test_a_named_tuple_is_an_object() -> None:
    """A NamedTuple is sent as a dict, or inside of a model as a list, and so is its schema."""
    made = caster(Pair)
    assert made.properties["it"] == {"$ref": "#/$defs/Pair"}
    form = made.definitions["Pair"]
    assert (form["type"], form["required"]) == (["object", "array"], ["left"])
    assert form["properties"]["left"]["type"] == "integer"
    assert form["properties"]["right"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]


def test_a_decimal_with_constraints_takes_exponents() -> None:
    """Text written by str(Decimal) satisfies the schema of a constrained Decimal."""
    assert schema_of(Annotated[Decimal, pydantic.Field(max_digits=5)])["anyOf"][1] == {
        "type": "string",
        "format": "decimal",
    }


def test_unusable_annotation_counts_as_any(caplog: pytest.LogCaptureFixture) -> None:
    """It costs a warning, and does not affect the others."""
    with caplog.at_level(logging.WARNING, "lightbus.service"):
        made = Caster({"odd": list[Odd], "good": set[int], "text": "no type"}, what="auth.f")
    assert made.properties == {"odd": {}, "good": schema_of(set[int]), "text": {}}
    assert made.cast({"odd": [1], "good": [1], "text": 2}) == {"odd": [1], "good": {1}, "text": 2}
    assert [record.getMessage().split(", its")[0] for record in caplog.records] == [
        "auth.f: any value is accepted for odd",
        "auth.f: any value is accepted for text",
    ]
