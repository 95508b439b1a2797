"""Python objects -> plain values, and their JSON form."""

from __future__ import annotations

import importlib
import json
import math
import re
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import core_schema

from lightbus.exceptions import DeformError
from lightbus.wire.codec import decode, encode
from lightbus.wire.plain import TOO_DEEP, explain, json_form, shown_form, to_plain


class Colour(str, Enum):  # noqa: UP042 - how most programs write it
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Shape(Enum):
    SQUARE = Colour.RED


class Pair(NamedTuple):
    left: Any
    right: Any = None


@dataclass
class Order:
    number: int
    lines: list[Any] = field(default_factory=list)


class Customer(pydantic.BaseModel):
    mail: str = pydantic.Field(alias="e-mail")
    since: date


class Token:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __to_bus__(self) -> Any:
        return self.inner


class Shouting(str):
    def __str__(self) -> str:
        return self.upper()


class Count(int):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Shape.SQUARE, "red"),
        (Pair(1, Colour.RED), {"left": 1, "right": "red"}),
        (Order(7, [Pair(1)]), {"number": 7, "lines": [{"left": 1, "right": None}]}),
        (Customer(**{"e-mail": "a@b", "since": date(2026, 1, 2)}), {"e-mail": "a@b", "since": date(2026, 1, 2)}),
        (Token(Token(Order(1))), {"number": 1, "lines": []}),
        (Shouting("quiet"), "quiet"),
        (Count(5), 5),
        (OrderedDict(a=(1,)), {"a": [1]}),
        (bytearray(b"x"), b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_arrive_as_plain_values(value: Any, plain: Any) -> None:
    """Each kind of object is carried as its plain value, at any depth."""
    arrived = decode(encode([{"value": value}]))
    assert arrived == [{"value": plain}]
    assert type(arrived[0]["value"]) is type(plain)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        date(2026, 1, 2),
        time(3, 4, 5, 6),
        timedelta(days=-1, microseconds=3),
        UUID(int=77),
        Decimal("1.10"),
        complex(1, -2),
        0.5,
        b"\x00",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_is_carried_as_its_base(value: Any) -> None:
    """Libraries subclass datetime, Decimal and the like; the value is sent, the subclass is not."""
    kind = type(value)
    same = _rebuild(type("Sub", (kind,), {}), value)
    assert type(to_plain(same)) is kind
    assert to_plain(same) == value


def _rebuild(sub: Any, value: Any) -> Any:
    if isinstance(value, (datetime, time)):
        return sub.fromisoformat(value.isoformat())
    if isinstance(value, date):
        return sub(value.year, value.month, value.day)
    if isinstance(value, timedelta):
        return sub(value.days, value.seconds, value.microseconds)
    return sub(int=value.int) if isinstance(value, UUID) else sub(value)


@pytest.mark.parametrize("value", [object(), Order, len, (x for x in ()), range(3)], ids=lambda value: str(type(value)))
def test_other_objects_have_no_plain_form(value: Any) -> None:
    """Classes, functions, generators and unknown objects are not carried."""
    with pytest.raises(TypeError, match="cannot be sent"):
        to_plain(value)


def test_endless_to_bus_is_refused() -> None:
    """A `__to_bus__` that returns the object itself ends in an error."""
    endless = Token(None)
    endless.inner = endless
    with pytest.raises(DeformError, match="without end"):
        encode(endless)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(days=1, microseconds=5), "PT86400.000005S"),
        (timedelta(seconds=-90), "-PT90S"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (complex(1, -2), "1-2j"),
        (b"h\xc3\xa9\xff", "h\u00e9\\xff"),
        ((1, {2}), [1, [2]]),
        (
            {1: Colour.RED, None: 2.5, False: 3, date(2026, 1, 2): 4},
            {"1": "red", "null": 2.5, "false": 3, "2026-01-02": 4},
        ),
        (Pair(1), {"left": 1, "right": None}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_type_has_its_json_schema_form(value: Any, form: Any) -> None:
    """The form that JSON Schema, and pydantic, use for it."""
    assert json_form(value) == form


def test_json_form_of_numbers_json_does_not_have() -> None:
    """NaN and the infinities stay, unless replacements are requested."""
    assert json_form([math.inf]) == [math.inf]
    stood_in = json_form([math.inf, -math.inf, math.nan], finite=True)
    assert all(math.isfinite(number) for number in stood_in)
    assert stood_in[0] > 0 > stood_in[1]


def test_shown_form_of_values_without_a_json_form() -> None:
    """It is a sentence: whoever shows many values can show the others."""
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    assert shown_form(deep) == TOO_DEEP
    assert shown_form({"at": UUID(int=0), "share": math.inf}) == json_form(
        {"at": UUID(int=0), "share": math.inf}, finite=True
    )


def test_json_form_names_the_unsendable_part() -> None:
    """The error is that of encoding, with the path."""
    with pytest.raises(DeformError, match=r"value\.a\[1\] is an object"):
        json_form({"a": [1, object()]})


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary() | st.datetimes() | st.timedeltas() | st.decimals(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_json_form_is_json(value: Any) -> None:
    """For any value, json can write the result, and a second pass changes nothing."""
    form = json_form(value)
    assert json.loads(json.dumps(form)) == form
    assert json_form(form) == form


def test_failure_without_a_single_cause_is_explained() -> None:
    """If no single value is the cause, the error contains the exception."""
    error = explain({"a": 1}, MemoryError("too much"), name="kwargs")
    assert isinstance(error, DeformError)
    assert str(error) == "kwargs cannot be sent: MemoryError: too much"


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (Order, "the class Order, which cannot be sent. Send an instance of it, or its name."),
        ((each for each in ()), "a generator, which cannot be sent. It is read once: send a list"),
        ({(1, 2): 3}, "a dict with the key (1, 2), a tuple, where a scalar is wanted. Send a list of pairs"),
        (re.compile("a", re.IGNORECASE), "a re.Pattern with flags, which do not travel. Write them into it"),
        (object(), "an object, which cannot be sent. Send a built-in type"),
    ],
)
def test_remedy_depends_on_the_value(value: Any, remedy: str) -> None:
    """It fits the kind of value."""
    assert str(explain({"it": value}, TypeError())).startswith(f"value.it is {remedy}")


def test_models_of_pydantic_v1_are_refused() -> None:
    """The remedy does not say to send it as a pydantic model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            v1 = importlib.import_module("pydantic.v1")
        except Exception:  # it does not support every version of Python
            pytest.skip("there is no pydantic.v1 here")
    made = type("Old", (v1.BaseModel,), {"__module__": "shop"})()
    assert "Derive it from pydantic.BaseModel, or send .dict()." in str(explain(made, TypeError()))


def test_classes_with_a_pydantic_form_are_sent() -> None:
    """In the JSON form that pydantic writes."""

    class Ref:
        def __init__(self, number: int) -> None:
            self.number = number

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return core_schema.no_info_plain_validator_function(
                lambda value: value if isinstance(value, cls) else cls(int(value[1:])),
                serialization=core_schema.plain_serializer_function_ser_schema(lambda value: f"#{value.number}"),
            )

    assert to_plain(Ref(3)) == "#3"


def test_secrets_are_sent_in_clear() -> None:
    """The text of a SecretStr is sent, not the stars that hide it."""
    assert [to_plain(each) for each in (pydantic.SecretStr("x"), pydantic.SecretBytes(b"x"))] == ["x", b"x"]
