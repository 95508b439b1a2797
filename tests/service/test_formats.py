"""Texts that represent other values: refused when sent, if a handler could not get them."""

from __future__ import annotations

import ipaddress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import ValidationError
from lightbus.service.foreign import ForeignSignature
from lightbus.service.formats import FORMATS
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature

TYPES: list[Any] = [
    datetime, date, time, timedelta, UUID, Decimal, complex, ipaddress.IPv4Address, ipaddress.IPv6Address
]  # fmt: skip


def signature(annotation: Any) -> Signature:
    return Signature(kind="Event", api_name="a", name="happened", parameters=[Parameter("it", annotation)])


def foreign(annotation: Any) -> ForeignSignature:
    return ForeignSignature("a.happened", {"parameters": signature(annotation).parameter_schema})


@pytest.mark.parametrize("make", [signature, foreign])
@pytest.mark.parametrize("annotation", TYPES, ids=lambda kind: str(kind.__name__))
def test_invalid_text_of_a_format_is_refused(annotation: Any, make: Any) -> None:
    """With a declared Api, and with its schema alone, the error names the argument, also inside of a container."""
    for kind, value in ((annotation, "x"), (annotation | None, "x"), (list[annotation], ["x"])):
        with pytest.raises(ValidationError, match=r"it(\[0\])? is 'x', but it is not"):
            make(kind).validate({"it": value})


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (datetime, "2026-01-31 12:00"), (datetime, "2026-01-31T12:00:00"), (datetime, "2026-01-31T12:00:00Z"),
        (date, "2026-01-31"), (time, "12:00"), (timedelta, "PT3S"), (timedelta, "1 day, 00:00:00"), (UUID, "0" * 32),
        (Decimal, "1E+400"), (Decimal, "NaN"), (complex, "1+2j"), (ipaddress.IPv4Address, "10.0.0.1"),
    ],
    ids=str,
)  # fmt: skip
def test_castable_text_is_accepted(annotation: Any, text: str) -> None:
    """A text that a handler gets as a value of its type may be sent, even if other rules refuse it."""
    signature(annotation).validate({"it": text})
    foreign(annotation).validate({"it": text})


ZONES = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (datetime, st.datetimes(timezones=ZONES)),
        (date, st.dates()),
        (time, st.times(timezones=ZONES)),
        (timedelta, st.timedeltas()),
        (UUID, st.uuids()),
        (Decimal, st.decimals()),
        (complex, st.complex_numbers()),
        (ipaddress.IPv4Address, st.ip_addresses(v=4).map(str)),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_every_value_may_be_sent(annotation: Any, values: st.SearchStrategy[Any]) -> None:
    """Values, which JSON Schema sees as texts, satisfy the format of their type."""

    @given(values)
    def check(value: Any) -> None:
        assert signature(annotation)._compiled_parameters.problem({"it": value}) is None

    check()


@pytest.mark.parametrize(
    "offset", [timedelta(microseconds=1), -timedelta(microseconds=1), timedelta(hours=-23, seconds=5)]
)
def test_a_zone_of_any_length(offset: timedelta) -> None:
    """A time zone may have seconds and parts of one, even nothing else."""
    zone = timezone(offset)
    for value in (datetime(2026, 1, 31, 12, tzinfo=zone), time(12, tzinfo=zone)):
        assert signature(type(value))._compiled_parameters.problem({"it": value}) is None
        text = value.isoformat()
        for wrong in (f"x{text}", f"{text}\n", text.replace("12", "25", 1)):
            assert signature(type(value))._compiled_parameters.problem({"it": wrong}) is not None


@given(st.text())
def test_a_text_is_accepted_exactly_where_it_can_be_cast(text: str) -> None:
    """What can be sent can be handled: formats and casts agree for every text."""
    for annotation in TYPES:
        sent = signature(annotation)
        try:
            sent.cast({"it": text})
            fits = True
        except ValidationError:
            fits = False
        is_sent = sent._compiled_parameters.problem({"it": text}) is None
        assert is_sent == fits or (annotation is Decimal and not Decimal(text).is_finite())


@given(st.text())
def test_formats_never_raise(text: str) -> None:
    """An exception would pass through the validator."""
    assert {type(check(text)) for check in FORMATS.values()} == {bool}
