"""Sent values are received: every kind of annotation, through the wire's form and the schema, in both directions."""

from __future__ import annotations

import dataclasses
import ipaddress
import pathlib
import sys
import zoneinfo
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic_core import SchemaValidator

from helpers.values import (
    STRICT,
    VALUES,
    Access,
    Aliased,
    BothAliases,
    ByName,
    Choices,
    Colour,
    Level,
    Name,
    Pair,
    Place,
    Point,
    ReadAlias,
    Strict,
    Typed,
    WriteAlias,
)
from lightbus.exceptions import ValidationError
from lightbus.service import from_wire as module
from lightbus.service.from_wire import from_wire, validator_of
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature
from lightbus.wire.codec import decode, encode


def there_and_back(annotation: Any, value: Any) -> tuple[Any, Any]:
    """Return a value as an argument, and as a result, after all conversions on its way."""
    parameter = Parameter("value", annotation)
    signature = Signature(kind="RPC", api_name="api", name="f", parameters=(parameter,), returns=annotation)
    signature.validate({"value": value})
    signature.validate_response(value)
    arrived = decode(encode({"value": value}))
    signature.validate(arrived)
    signature.validate_response(arrived["value"])
    return signature.cast(arrived)["value"], signature.cast_result(arrived["value"])


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=lambda each: str(each)[:60])
def test_sent_values_are_received(annotation: Any, value: Any) -> None:
    """They are equal, and of the same class."""
    for got in there_and_back(annotation, value):
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (ReadAlias, {"userId": 1}, ReadAlias.model_validate({"userId": 1})),
        (WriteAlias, {"user_id": 1}, WriteAlias(user_id=1)),
        (BothAliases, {"readId": 1}, BothAliases.model_validate({"readId": 1})),
        (Choices, {"userId": 1}, Choices.model_validate({"uid": 1})),
        (Choices, {"ids": [1]}, Choices.model_validate({"uid": 1})),
        (ByName, {"userId": 1}, ByName(user_id=1)),
        (Aliased, {"userId": 1}, Aliased(userId=1)),  # type: ignore[call-arg]
        (Point, {"x": 1}, Point(1)),
        (Pair, [1, "blue"], Pair(1, Colour.BLUE)),
        (Strict, {**decode(encode(STRICT)), "point": {"x": 1}}, STRICT.model_copy(update={"point": Point(1)})),
    ],
)
def test_plain_values_are_accepted(annotation: Any, given: Any, value: Any) -> None:
    """A sender without the class sends its plain form, with the names under which the class reads it."""
    assert there_and_back(annotation, given)[0] == value


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [
        (Strict, {**decode(encode(STRICT)), "pair": ["1", "x"]}),
        (Strict, {**decode(encode(STRICT)), "colour": "green"}),
        (ReadAlias, {}),
        (Choices, {"other": 1}),
        (Place, [1, 1]),
        (Literal[Colour.RED], "blue"),
        (Access, "READ"),
        (dict[Level, str], {3: "a"}),
        (pathlib.Path, 3),
        (ipaddress.IPv4Address, "10.0.0.256"),
        (pydantic.HttpUrl, "no url"),
        (Typed, {"size": 1}),
        (Typed, {"colour": "red", "size": 0}),
    ],
)
def test_wrong_values_are_refused(annotation: Any, wrong: Any) -> None:
    """Constraints hold, those of strict models, too."""
    with pytest.raises(ValidationError):
        there_and_back(annotation, wrong)


@pytest.mark.parametrize("name", ["type", "default", "metadata", "cls", "config", "fields", "strict", "ref"])
def test_fields_named_like_parts_of_schemas(name: str) -> None:
    """A field may have any name that occurs in pydantic's schemas."""
    make: Any = pydantic.create_model
    model = make("Model", __config__=pydantic.ConfigDict(strict=True, protected_namespaces=()), **{name: (Place, ...)})
    assert there_and_back(model, model(**{name: Place.HOME}))[0] == model(**{name: Place.HOME})
    made = dataclasses.make_dataclass("Made", [(name, Place)])
    assert there_and_back(made, made(Place.HOME))[0] == made(Place.HOME)


def test_nan_and_infinities_are_sent() -> None:
    """NaN and the infinities arrive."""
    for value in (float("nan"), float("inf"), Decimal("NaN")):
        for got in there_and_back(type(value) if isinstance(value, float) else Any, value):
            assert str(got) == str(value)


def test_decimal_nan_is_accepted() -> None:
    """NaN and the infinities are Decimals, and are accepted unless the annotation limits the digits."""
    for value in (Decimal("NaN"), Decimal("-Infinity")):
        for got in there_and_back(Decimal, value):
            assert str(got) == str(value)
    with pytest.raises(ValidationError):
        there_and_back(Annotated[Decimal, pydantic.Field(max_digits=5)], Decimal("NaN"))


class Percent(int):
    """A user's class whose constructor takes more than one value."""

    def __new__(cls, value: int, unit: str) -> Percent:
        return super().__new__(cls, value)


def test_subclasses_of_builtin_types_are_created() -> None:
    """From the received value, if one argument is enough; they have the schema of the builtin type."""
    assert there_and_back(Percent, Percent(3, "%")) == (3, 3)
    signature = Signature(kind="RPC", api_name="a", name="f", parameters=[Parameter("value", Name)])
    assert signature.parameter_schema["properties"]["value"] == {"type": "string"}
    assert type(signature.cast({"value": "x"})["value"]) is Name


def test_time_zones_are_sent_as_offsets() -> None:
    """A moment arrives as the same moment, with the offset of its zone, which also distinguishes two equal hours."""
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        value = datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold)
        for got in there_and_back(datetime, value):
            assert got.timestamp() == value.timestamp()
            assert got.utcoffset() == value.utcoffset()


if sys.version_info >= (3, 12):  # pragma: no cover - of later versions

    def test_alias_of_a_type_statement_is_resolved() -> None:
        """An alias made with `type` means its value."""
        scope: dict[str, Any] = {}
        exec("type Numbers = list[int]", scope)
        assert there_and_back(scope["Numbers"], [1])[0] == [1]


@pydantic.dataclasses.dataclass
class Serialized:
    number: int

    @pydantic.field_serializer("number")
    def for_people(self, number: int) -> str:
        return f"number {number}"


def test_a_dataclass_is_sent_by_its_fields() -> None:
    """The output of serializers, which nothing reads back, is not sent."""
    assert there_and_back(Serialized, Serialized(number=1)) == (Serialized(number=1), Serialized(number=1))


class Corner(Enum):
    TOP = (0, 1)
    LOW = (0, 0)


@pytest.mark.parametrize("value", [object(), (0, 7), [0], "TOP", None])
def test_foreign_enum_value_is_refused(value: Any) -> None:
    """Also a value that cannot be sent: it is refused like any other, and nothing else is raised."""
    validator = validator_of(from_wire(pydantic.TypeAdapter(Corner).core_schema))
    assert validator.validate_python([0, 1]) is Corner.TOP
    assert validator.validate_python(Corner.LOW) is Corner.LOW
    with pytest.raises(pydantic.ValidationError):
        validator.validate_python(value)


def earlier_validator(schema: Any) -> SchemaValidator:
    """Behave like pydantic before 2.13: reuse the validator of a complete class, without an option."""
    return SchemaValidator(schema)


def test_earlier_releases_of_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model inside is read as the bus writes it there, too, and is unchanged afterwards."""

    class Inner(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        corner: Corner

    class Outer(pydantic.BaseModel):
        inner: list[Inner]

    monkeypatch.setattr(module, "SchemaValidator", earlier_validator)
    validator = validator_of(from_wire(pydantic.TypeAdapter(Outer).core_schema))
    found = validator.validate_python({"inner": [{"corner": [0, 1]}]})
    assert found.inner[0].corner is Corner.TOP
    assert (Inner.__pydantic_complete__, Outer.__pydantic_complete__) == (True, True)
    assert Inner(corner=Corner.LOW).corner is Corner.LOW


def test_an_earlier_release_that_refuses_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes in it are complete afterwards."""

    class Refused(pydantic.BaseModel):
        n: int

    class Refusing:
        """It takes nothing."""

        def __init__(self, schema: Any) -> None:
            assert not Refused.__pydantic_complete__
            raise ValueError("no schema")

    monkeypatch.setattr(module, "SchemaValidator", Refusing)
    with pytest.raises(ValueError, match="no schema"):
        validator_of(from_wire(pydantic.TypeAdapter(Refused).core_schema))
    assert Refused.__pydantic_complete__
