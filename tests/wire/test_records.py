"""Events as bytes."""

from __future__ import annotations

import math
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.messages import any_record as some_record
from lightbus.exceptions import ProtocolError
from lightbus.wire import codec, envelope
from lightbus.wire.records import Record, decode_record, encode_record

seeds = st.integers(0, 2**32).map(Random)
any_record = seeds.map(some_record)


@given(any_record)
def test_record_round_trip(record: Record) -> None:
    """An event encoded once is the same wherever it is read."""
    assert decode_record(encode_record(record)) == record


@given(some=st.lists(any_record, max_size=5))
def test_records_decoded_together_are_equal(some: list[Record]) -> None:
    """The same as decoded one by one."""
    assert envelope.decode_records([encode_record(record) for record in some]) == some


@given(before=st.lists(any_record, max_size=3), data=st.binary(max_size=20), after=st.lists(any_record, max_size=3))
def test_invalid_record_among_others(before: list[Record], data: bytes, after: list[Record]) -> None:
    """Any bytes among them give records or ProtocolError, nothing else."""
    encoded = [encode_record(record) for record in before]
    with suppress(ProtocolError):
        envelope.decode_records([*encoded, data, *(encode_record(record) for record in after)])


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        ["id", 1, 0.0],
        [1, 1, 0.0, {}],
        ["id", "1", 0.0, {}],
        ["id", 1, "now", {}],
        ["id", 1, 0.0, []],
        ["i" * 513, 1, 0.0, {}],
        ["i\n", 1, 0.0, {}],
        ["id", True, 0.0, {}],
        ["id", -1, 0.0, {}],
        ["id", 1, math.nan, {}],
        ["id", 1, math.inf, {}],
        ["id", 1, Decimal(1), {}],
        ["id", 1, 0.0, {1: 2}],
    ],
)
def test_a_record_of_another_form_is_refused(fields: Any) -> None:
    """A record has an id, a version, a time and arguments."""
    with pytest.raises(ProtocolError, match="An event's record needs an id"):
        decode_record(codec.encode(fields))
    others = codec.encode(["id", 1, 0.0, {}])
    with pytest.raises(ProtocolError, match="An event's record needs an id"):
        envelope.decode_records([others, codec.encode(fields), others])


def test_a_record_of_a_later_version() -> None:
    """Additional fields at the end are ignored."""
    assert decode_record(codec.encode(["id", 1, 0.5, {"a": 1}, "later"])) == Record("id", 1, 0.5, {"a": 1})


def test_trace_context_is_carried_if_it_is_valid() -> None:
    """An invalid one is ignored, like anything that was added later."""
    record = Record("id", 1, 0.5, {"a": 1}, {"traceparent": "x"})
    assert decode_record(encode_record(record)) == record
    assert encode_record(record._replace(trace=None)) == encode_record(record._replace(trace={}))
    for strange in (5, {1: 2}, {str(n): "x" for n in range(1000)}):
        assert decode_record(codec.encode(["id", 1, 0.5, {"a": 1}, strange])).trace is None
