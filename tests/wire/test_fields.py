"""The checks of message fields: which values each accepts, and which not."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.wire import fields
from lightbus.wire.fields import FIRST_MOMENT, LAST_MOMENT, MAX_INT, FieldCheck

small = fields.whole(0, 9)
SHORT = Annotated[str, fields.text(3)]

CHECKS: dict[str, tuple[FieldCheck, list[Any], list[Any]]] = {
    "anything": (fields.anything, [None, object(), []], []),
    "flag": (fields.flag, [True, False], [0, 1, None, "", "true"]),
    "text": (fields.text(3, least=1), ["a", "abc", "ä b"], ["", "abcd", "a\0", "a\n", "\x1b[", b"a", None]),
    "prose": (fields.prose(3), ["", "a\0b"], ["abcd", b"a", None]),
    "one of": (fields.one_of("ack", "journal"), ["ack"], ["", "Ack", None, ["ack"], 1]),
    "instance": (fields.instance_id, ["0123456789abcdef"], ["", "A" * 16, "a" * 15, "a" * 17, "g" * 16, b"a" * 16, 7]),
    "no instance": (fields.no_instance_or_id, ["", "a" * 16], ["a", None, 0, b""]),
    "binary": (fields.binary(2), [b"", b"ab"], [b"abc", "a", bytearray(b"a")]),
    "whole": (small, [0, 9], [-1, 10, 1.0, True, "1", None, Decimal(1)]),
    "number": (fields.number(-1, 1), [-1, 0.5, 1.0], [2, -1.1, math.nan, math.inf, True, "0", None, Decimal(0)]),
    "moment": (
        fields.moment,
        [0, 1.5, -1.5, FIRST_MOMENT, LAST_MOMENT],
        [FIRST_MOMENT - 1, LAST_MOMENT + 1, math.nan, math.inf, True, "0", None],
    ),
    "optional": (fields.optional(small), [None, 3], [10, "3"]),
    "optional type": (fields.optional(SHORT), [None, "abc"], ["abcd", 3]),
    "either": (fields.either(small, SHORT), [3, "abc"], [10, "abcd", None]),
    "listing": (fields.listing(small, 2), [[], [1], [1, 2]], [[1, 2, 3], [10], (1,), None, {1: 2}, "1"]),
    "row": (fields.row(small, SHORT), [[1, "a"]], [[1], [1, "a", 2], ["a", 1], (1, "a"), None]),
    "arguments": (fields.is_arguments, [{}, {"a": object()}], [{1: "a"}, {"a": 1, b"b": 2}, [], None, "a"]),
    "string map": (fields.string_map(1), [{}, {"a": 1}], [{"a": 1, "b": 2}, {1: 1}, None]),
    "since": (
        fields.since,
        [None, "$", "0", "x" * 512, 0, -1.5, LAST_MOMENT, datetime(2026, 1, 1, tzinfo=UTC)],
        ["", "x" * 513, True, math.nan, LAST_MOMENT + 1, date(2026, 1, 1), b"0", [], Decimal(1)],
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks_accept_their_kind(name: str) -> None:
    """Both ends of each range included."""
    check, taken, _ = CHECKS[name]
    assert [value for value in taken if not check(value)] == []


@pytest.mark.parametrize("name", CHECKS)
def test_checks_refuse_all_others(name: str) -> None:
    """Values of other types, even if equal to an accepted one, and those out of range."""
    check, _, refused = CHECKS[name]
    assert [value for value in refused if check(value)] == []


@pytest.mark.parametrize("moment", [datetime.min, datetime.max, datetime.max.replace(tzinfo=UTC)])
def test_since_at_the_end_of_the_calendar_is_refused(moment: datetime) -> None:
    """If this time zone has no such second, it is refused, and nothing is raised."""
    assert fields.since(moment) in (True, False)


@pytest.mark.parametrize("moment", [FIRST_MOMENT, LAST_MOMENT])
@pytest.mark.parametrize("hours", [-23, 0, 23])
def test_moments_can_be_shown_in_all_time_zones(moment: float, hours: int) -> None:
    """In no time zone is one outside of the calendar, so all listed events can be shown."""
    assert datetime.fromtimestamp(moment, timezone(timedelta(hours=hours))).timestamp() == moment


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(nested)
def test_checks_never_raise(value: Any) -> None:
    """For any value, a check returns whether it accepts it."""
    published = [fields.published_records(5), fields.published_records(5, or_sizes=True)]
    for check in [check for check, _, _ in CHECKS.values()] + published:
        assert check(value) in (True, False)


RECORDS: list[tuple[Any, bool]] = [
    ([], True),
    ([[1, 0, b""]], True),
    ([[1, 0, b"a"], [2, 1, b"b"], [9, 2, b"c"]], True),
    ([[1, 0, b""], [2, 0, b""]], True),  # the event before it may be of another partition
    ([[MAX_INT, 0, b""]], True),
    ([[MAX_INT + 1, 0, b""]], False),
    ([[1, 0, b""], [1, 0, b""]], False),
    ([[2, 0, b""], [1, 0, b""]], False),
    ([[1, 1, b""]], False),
    ([[0, 0, b""]], False),
    ([[1, -1, b""]], False),
    ([[1, 0]], False),
    ([[1, 0, b"", 0]], False),
    ([[1.0, 0, b""]], False),
    ([[True, 0, b""]], False),
    ([[1, 0, ""]], False),
    ([(1, 0, b"")], False),
    ([[n, 0, b""] for n in range(1, 7)], False),
    (None, False),
]


@pytest.mark.parametrize(("value", "taken"), RECORDS)
def test_published_records_are_in_order_and_bounded(value: Any, taken: bool) -> None:
    """Each follows the previous one in its topic, and their number is limited."""
    assert fields.published_records(5)(value) is taken


@pytest.mark.parametrize(
    ("size", "taken"), [(0, True), (MAX_INT, True), (-1, False), (MAX_INT + 1, False), (1.0, False)]
)
def test_size_may_replace_a_record(size: Any, taken: bool) -> None:
    """Only in a page, which may leave out an event that is too large."""
    assert fields.published_records(5, or_sizes=True)([[1, 0, size]]) is taken
    assert not fields.published_records(5)([[1, 0, size]])


def test_values_pass_if_each_passes() -> None:
    """One that does not is enough to refuse them."""
    checks = (fields.flag, small)
    assert fields.passes(checks, [True, 3])
    assert not fields.passes(checks, [True, 10])
    assert not fields.passes(checks, [1, 3])


class Checked(NamedTuple):
    name: Annotated[str, fields.text(3)]
    is_new: Annotated[bool, fields.flag] = False


class Unchecked(NamedTuple):
    name: str
    is_new: Annotated[bool, fields.flag]
    size: int


def test_checks_are_read_from_the_fields() -> None:
    """In their order."""
    first, second = fields.checks_of(Checked)
    assert (first("abc"), first("abcd"), first(True)) == (True, False, False)
    assert second is fields.flag


def test_field_without_a_check_raises() -> None:
    """It is named when the module is imported."""
    with pytest.raises(TypeError, match="Unchecked: no check is declared for the type of name, size"):
        fields.checks_of(Unchecked)
