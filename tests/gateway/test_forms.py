"""Tests of lightbus.gateway.forms: values as JSON, and back."""

from __future__ import annotations

import contextlib
import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import DeformError
from lightbus.gateway.forms import event_form, read_object, value_form

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (True, b"true"),
        (None, b"null"),
        ("ä", '"ä"'.encode()),
        (2**100, str(2**100).encode()),
        (math.nan, b"null"),
        ({"a": [1, math.inf]}, b'{"a":[1,null]}'),
        (date(2026, 1, 2), b'"2026-01-02"'),
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00+00:00"'),
        (timedelta(seconds=90), b'"PT90S"'),
        (Decimal("1.50"), b'"1.50"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (b"abc", b'"abc"'),
        ({1: 2}, b'{"1":2}'),
        ([Decimal(1), math.nan], b'["1",null]'),
    ],
)
def test_values_follow_the_schemas(value: Any, form: bytes) -> None:
    """JSON's own types unchanged, others as the schemas describe them, and null for NaN and infinities."""
    assert value_form(value) == form


@pytest.mark.parametrize("value", ["half \udcff", ["\ud800", math.nan], {"\udcff": date(2026, 1, 2)}])
def test_lone_surrogates_survive(value: Any) -> None:
    """They come through, as JSON can write them."""
    json.loads(value_form(value).decode("utf-8"))


def test_values_without_a_json_form() -> None:
    """They are no values of the bus."""
    with pytest.raises(DeformError):
        value_form(object())


@given(JSON_VALUES)
def test_json_values_are_unchanged(value: Any) -> None:
    """In both directions."""
    assert json.loads(value_form(value)) == value
    assert read_object(value_form({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b"1", b"null", b'{"a":NaN}', b'{"a":-Infinity}', b"\xff", b"[" * 100_000, b'{"a":1}}', b"\x00",
     '{"a":1}'.encode("utf-16"), b'{"a":' + b"1" * 5000 + b"}", b'{"a":1e400}', b'{"a":[-1.5e999]}'],
)  # fmt: skip
def test_body_that_is_no_object_is_a_value_error(body: bytes) -> None:
    """Any other body raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        read_object(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"[1]", "a list"), (b'"a"', "a string"), (b"1.5", "a number"), (b"true", "true or false"), (b"null", "null")],
)
def test_error_names_the_type_of_the_body(body: bytes, said: str) -> None:
    """The error names the JSON type of the body."""
    with pytest.raises(ValueError, match=f"^it is {said}$"):
        read_object(body)


def test_missing_body_means_no_arguments() -> None:
    """Is no argument."""
    assert read_object(b"") == {}


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_value_error(body: bytes) -> None:
    """Any bytes give an object, or raise ValueError."""
    with contextlib.suppress(ValueError):
        assert isinstance(read_object(body), dict)


def test_event_has_the_fields_of_the_stream() -> None:
    """What streams tell, and nothing besides."""
    event = {"id": "i", "native_id": "n", "api": "a", "event": "e", "version": 1, "published_at": 2.5, "kwargs": {}}
    assert json.loads(event_form({**event, "size": 7})) == event
