"""Payload values <-> msgpack."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightbus.exceptions import DeformError, ProtocolError
from lightbus.wire import codec
from lightbus.wire.codec import MAX_CONTAINERS, MAX_DEPTH, MAX_INT_BYTES, MAX_VALUES, Work, decode, encode

_LARGEST_INT = 2 ** (8 * MAX_INT_BYTES - 1) - 1


def _unfolded(moment: Any) -> Any:
    # `fold` is not sent, but repr shows it.
    return moment.replace(fold=0)


# Python itself cannot read the ISO form of an offset below one second.
_offsets = st.integers(-86_000, 86_000).map(lambda seconds: timezone(timedelta(seconds=seconds)))
keys = st.one_of(
    st.text(), st.integers(), st.booleans(), st.none(), st.binary(), st.floats(allow_nan=False), st.uuids(), st.dates()
)
scalars = st.one_of(
    keys,
    st.integers(min_value=-_LARGEST_INT, max_value=_LARGEST_INT),
    st.datetimes(timezones=st.none() | _offsets).map(_unfolded),
    st.times(timezones=st.none() | _offsets).map(_unfolded),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.complex_numbers(allow_nan=False),
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30)


def nested(levels: int) -> Any:
    """Return 1 inside of this many lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


@given(values)
def test_decoding_encoded_values_gives_the_same_value(value: Any) -> None:
    """Encode then decode is the identity for every value of the wire's own types."""
    assert decode(encode(value)) == value


@given(values)
def test_types_survive_encoding(value: Any) -> None:
    """A date stays a date and True stays True, where == alone would not see the difference."""
    assert repr(decode(encode([value]))) == repr([value])


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\x81\x90\x01")
@example(b"\x81\x80\x01")
@example(b"\xa1\xff")
@example(b"\xd7\xff" + b"\xff" * 8)
@example(b"\xc7\x0c\xff" + b"\xff" * 12)
@example(b"\x01\x02")
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """For any bytes, decode returns a value or raises ProtocolError, and nothing else."""
    with suppress(ProtocolError):
        decode(data)


@given(st.integers(min_value=-128, max_value=127), st.binary(max_size=40))
def test_any_extension_decodes_or_is_refused(code: int, data: bytes) -> None:
    """For any extension data, decode returns a value or raises ProtocolError."""
    packed = (
        msgpack.packb(msgpack.ExtType(code, data)) if code >= 0 else b"\xc7" + bytes([len(data), code + 256]) + data
    )
    try:
        value = decode(packed)
    except ProtocolError:
        return
    assert isinstance(value, (datetime, date, time, timedelta, UUID, Decimal, complex, int))


@given(values, st.integers(min_value=0))
def test_a_truncated_message_is_refused(value: Any, cut: int) -> None:
    """Bytes that end too early never decode."""
    packed = encode([value])
    with pytest.raises(ProtocolError):
        decode(packed[: cut % len(packed)])


def test_trailing_bytes_are_refused() -> None:
    """One message is one value: further bytes are an error, not ignored."""
    with pytest.raises(ProtocolError, match="extra"):
        decode(encode(1) + b"\x00")


def test_an_unknown_extension_is_refused_by_its_code() -> None:
    """A later version's extension type is named in the error."""
    with pytest.raises(ProtocolError, match="unknown extension type 99"):
        decode(msgpack.packb(msgpack.ExtType(99, b"")))


def test_decode_takes_a_memoryview() -> None:
    """The body of a frame is decoded without a copy."""
    assert decode(memoryview(b"head" + encode({"a": [1]}))[4:]) == {"a": [1]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, complex(math.nan, math.inf), Decimal("sNaN")])
def test_nan_and_infinities_are_sent(value: Any) -> None:
    """They arrive unchanged."""
    assert repr(decode(encode(value))) == repr(value)


def test_tuples_and_sets_become_lists() -> None:
    """The wire has one kind of sequence."""
    assert decode(encode({"t": (1, (2,)), "s": {3}, "f": frozenset({4})})) == {"t": [1, [2]], "s": [3], "f": [4]}


def test_bytes_like_values_arrive_as_bytes() -> None:
    """Bytearray and memoryview, too."""
    assert decode(encode([b"\xff", bytearray(b"a"), memoryview(b"b")])) == [b"\xff", b"a", b"b"]


def test_a_msgpack_timestamp_becomes_a_datetime() -> None:
    """A peer in another language may send msgpack's own timestamps."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert decode(msgpack.packb(moment, datetime=True)) == moment


def test_a_frozen_dataclass_in_a_set_is_carried() -> None:
    """Hashable values are carried everywhere except as keys."""
    assert decode(encode({Point(1, (2, 3))})) == [{"x": 1, "y": [2, 3]}]


def test_extension_types_are_carried_within_tuples() -> None:
    """Checking the keys of messages with tuples changes nothing in their values."""
    value = (2**70, UUID(int=5), Decimal("1.50"), {date(2026, 1, 1): 2**64})
    assert decode(encode(value)) == list(value)


@pytest.mark.parametrize("key", [(1, 2), Point(1), frozenset({1})])
def test_a_key_that_would_be_a_list_or_a_dict_is_refused(key: Any) -> None:
    """The sender refuses a key that Python could not unpack, with the path."""
    with pytest.raises(DeformError, match=r"kwargs\.table is a dict with the key .* where a scalar is wanted"):
        encode([1, {"table": {key: 1}}], names=("api", "kwargs"))


def test_the_error_gives_the_path_to_the_value() -> None:
    """The sender gets the path, the value, and what to do."""
    kwargs = {"items": [1, 2, {"9 lives": Point(1, {"when": object()})}]}
    with pytest.raises(DeformError) as caught:
        encode(["auth", kwargs], names=("api_name", "kwargs"))
    assert str(caught.value).startswith("kwargs.items[2]['9 lives'].y.when is an object, which cannot be sent. ")
    assert "__to_bus__" in str(caught.value)


def test_the_path_starts_at_the_given_name() -> None:
    """Without names for its items, the value has its own name."""
    with pytest.raises(DeformError, match=r"^result\[1\] is an object"):
        encode([1, object()], name="result")


def test_integers_have_a_limit() -> None:
    """The largest integer passes; with one byte more, sender and receiver refuse it."""
    assert decode(encode([_LARGEST_INT])) == [_LARGEST_INT]
    with pytest.raises(DeformError, match=r"value\[0\] is an int .*over the limit of 1024"):
        encode([_LARGEST_INT + 1])
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(msgpack.ExtType(8, b"\x01" * (MAX_INT_BYTES + 1))))


def test_text_without_utf8_form_is_refused() -> None:
    """A lone surrogate is refused with its path."""
    with pytest.raises(DeformError, match=r"value\.name is a str that cannot be sent: UnicodeEncodeError"):
        encode({"name": "\ud800"})


@pytest.mark.parametrize("levels", [1, 100, MAX_DEPTH])
def test_nesting_up_to_the_limit_passes(levels: int) -> None:
    """MAX_DEPTH levels arrive."""
    assert decode(encode(nested(levels))) == nested(levels)


def test_deep_nesting_is_refused_by_the_sender() -> None:
    """Values nested too deep are a DeformError, and the path is not written out in full."""
    with pytest.raises(DeformError, match="deeper than 500 levels") as caught:
        encode(nested(2000))
    assert len(str(caught.value)) < 400


def test_a_reference_cycle_is_refused() -> None:
    """A list that contains itself ends in an error, not in a crash."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(DeformError, match="cycle"):
        encode(cycle)


@pytest.mark.parametrize(
    ("code", "count", "step", "accepted"),
    [(5, 60, 2**61 - 1, True), (5, 5000, 1, True), (5, 20_000, 2**61 - 1, False), (8, 20_000, 2**61 - 1, False)],
)
def test_keys_made_to_collide_are_refused(code: int, count: int, step: int, accepted: bool) -> None:
    """Many keys of one hash, which would take minutes, are refused at once; as many ordinary ones pass."""
    keys = (msgpack.packb(msgpack.ExtType(code, (1 + number * step).to_bytes(16, "big"))) for number in range(count))
    packed = b"\xdf" + count.to_bytes(4, "big") + b"".join(key + b"\xc0" for key in keys)
    if accepted:
        assert len(decode(packed)) == count
    else:
        with pytest.raises(ProtocolError, match="collide"):
            decode(packed)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\x81", b"\xdd\x00\x00\x00\x01"])
@pytest.mark.parametrize("levels", [1100, 50_000])
def test_nesting_bombs_are_refused(opening: bytes, levels: int) -> None:
    """A message of opening bytes only is refused without deep recursion."""
    with pytest.raises(ProtocolError):
        decode(opening * levels + b"\x01")


@pytest.mark.parametrize(
    "values",
    [[], [1, "two", {"three": [b"3"]}], [{"when": date(2026, 11, 29)}, {3: {4, 5}}], [bytes(100_000), 1]],
    ids=["none", "plain", "others", "large"],
)
def test_encode_all_equals_encode(values: list[Any]) -> None:
    """For any values; later values are encoded correctly, too."""
    assert codec.encode_all(values) == [codec.encode(value) for value in values]
    assert codec.encode_all([1, 2]) == [codec.encode(1), codec.encode(2)]


def test_encode_all_names_the_failing_value() -> None:
    """The error gives the path, with the names of the items."""
    with pytest.raises(DeformError, match=r"kwargs\.what"):
        codec.encode_all([["id", {"what": 1}], ["id", {"what": object()}]], names=("id", "kwargs"))
    assert codec.encode_all([1, 2]) == [codec.encode(1), codec.encode(2)]


def test_an_exception_in_to_bus_is_reported_with_its_place() -> None:
    """It is chained to an error that gives the path."""

    class Broken:
        def __to_bus__(self) -> None:
            raise RuntimeError("no luck")

    with pytest.raises(
        DeformError, match=r"value\.b is a .*Broken that cannot be sent: RuntimeError: no luck"
    ) as caught:
        encode({"a": 1, "b": Broken()})
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_to_bus_may_encode_something_itself() -> None:
    """Encoding inside of `__to_bus__` does not disturb the message around it."""

    class Signed:
        def __to_bus__(self) -> dict[str, Any]:
            return {"body": encode([1, 2])}

    assert decode(encode(["before", Signed(), "after"])) == ["before", {"body": b"\x92\x01\x02"}, "after"]


def test_threads_and_failures_share_no_packer() -> None:
    """Each thread's result is its own, whatever other threads encode, and after failures and large messages."""

    class Nested:
        def __to_bus__(self) -> bytes:
            return encode(["inside"])

    def work(number: int) -> None:
        for each in range(200):
            value = {"n": number, "each": each, "data": "x" * each}
            assert decode(encode(value)) == value
            with pytest.raises(DeformError):
                encode([value, object()])
            assert decode(encode([Nested(), number])) == [encode(["inside"]), number]

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result()
    large = b"x" * 200_000
    assert decode(encode(large)) == large


MANY = MAX_CONTAINERS + 1


def array(count: int, item: bytes) -> bytes:
    """Return an array of this many equal items."""
    return b"\xdd" + count.to_bytes(4, "big") + item * count


@pytest.mark.parametrize(
    "item",
    [b"\x90", b"\x80", b"\x81\xa0\x01", b"\x81\x01\x01", b"\xd4\x061", b"\x91\x90", b"\xd8\x05" + bytes(16)],
    ids=["lists", "maps", "maps of one", "maps with a number for a key", "Decimals", "nested lists", "UUIDs"],
)
@pytest.mark.unmeasured
def test_too_many_containers_are_refused(item: bytes) -> None:
    """Lists, maps and extension values are counted when they are created: a byte each on the wire, much more here."""
    with pytest.raises(ProtocolError, match=f"made of more than .* {MAX_CONTAINERS:,} lists"):
        decode(array(MANY, item))


@pytest.mark.parametrize("size", [100_000, 300_000], ids=["few bytes", "many"])
def test_list_with_more_items_than_bytes_is_refused(size: int) -> None:
    """Memory is allocated before the items are read: nested a thousand times, that would be gigabytes."""
    with pytest.raises(ProtocolError, match="cut short"):
        decode(1000 * (b"\xdd" + (3_000_000).to_bytes(4, "big")) + bytes(size))


def test_unfinished_lists_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the bytes end too soon nothing was unpacked: each list could claim as many items as there are bytes."""
    monkeypatch.setattr(codec, "unpackb", pytest.fail)
    for count in (5_000, 4_000_000):
        with pytest.raises(ProtocolError, match="cut short"):
            decode(900 * (b"\xdd" + count.to_bytes(4, "big")) + bytes(count))


@pytest.mark.parametrize("number", [100, 30_000, 300_000], ids=["short", "few bytes", "many"])
def test_message_is_unpacked_twice_only_for_other_keys(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged one is not tried again. The quick attempt with short lists ends at the first longer one."""
    unpacked: list[dict[str, Any]] = []

    def unpackb(data: Any, **options: Any) -> Any:
        if options.get("max_array_len") != codec._SHORT_LIST:
            unpacked.append(options)
        return msgpack.unpackb(data, **options)

    monkeypatch.setattr(codec, "unpackb", unpackb)
    with pytest.raises(ProtocolError):
        decode(array(number, b"\xd4\x63\x00"))  # an unknown extension type
    assert len(unpacked) == 1
    assert decode(array(number, b"\x01")) == [1] * number
    assert len(unpacked) == 2
    assert decode(b"\x92" + array(number, b"\x01") + b"\x81\x01\x01") == [[1] * number, {1: 1}]
    assert len(unpacked) == 4


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ([[]] * 10_000, 600_000, 3_000_000),
        ([[]] * 400_000, 24_000_000, 80_000_000),
        (b"x" * 1_000_000, 1_000_000, 1_100_000),
        (["ab"] * 400_000, 10_000_000, 24_000_000),
    ],
    ids=["lists", "many lists", "bytes", "texts"],
)
@pytest.mark.unmeasured
def test_memory_of_a_message_is_estimated(value: Any, least: int, most: int) -> None:
    """After decoding: about the memory of its values, not its bytes."""
    data, work = encode([value]), Work()
    decode(data, work)
    assert least <= work.memory(data) <= most


FILE = b"\x90\x80\xdd\xd4" * 150_000
"""Bytes of a file: what begins lists and maps in msgpack occurs in it more often than a message may have those."""


@pytest.mark.parametrize(
    "value",
    [FILE, ["api", "name", 5.0, {"data": FILE}], [{"rows": [(1, bytearray(FILE))]}], {"text": "\x10" * MANY}],
    ids=["alone", "in a call", "deep", "text"],
)
def test_large_bytes_are_not_searched(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing within a large bytes value or text counts as a list: sending a file costs copying it."""
    monkeypatch.setattr(codec, "_unpack", pytest.fail)
    monkeypatch.setattr(codec, "_BEGINNINGS", None)  # needed for searching the bytes
    assert len(encode([value])) > MANY


@pytest.mark.parametrize("value", [FILE, {"data": FILE[:100_000]}, [[FILE]] * 100], ids=["alone", "small", "several"])
def test_large_bytes_are_unpacked_without_a_check_first(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of few large values is unpacked at once."""
    data = encode(value)
    monkeypatch.setattr(codec, "_check_complete", pytest.fail)
    assert decode(data) == value


@pytest.mark.parametrize(
    "value", [[FILE, [0] * 300], [FILE, [[]] * 200, [[[]] * 200] * 200]], ids=["a long list", "many lists"]
)
def test_many_values_are_checked_for_completeness_first(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other large message is checked, and then unpacked."""
    looked: list[int] = []
    monkeypatch.setattr(codec, "_check_complete", lambda data: looked.append(len(data)))
    data = encode(value)
    looked.clear()
    assert decode(data) == value
    assert looked == [len(data)]


def test_head_precedes_the_encoded_value() -> None:
    """Also after a failed first attempt."""
    for value in ("short", FILE, (1, 2)):
        assert encode(value, head=b"head") == b"head" + encode(value)


@pytest.mark.unmeasured
def test_large_bytes_hide_no_lists() -> None:
    """Values beside a large one are counted, by the sender and by the receiver."""
    with pytest.raises(DeformError, match="Send it in parts"):
        encode([FILE, [[]] * MANY])
    data, work = encode([bytes(100_000), [[]] * 20_000]), Work()
    decode(data, work)
    assert work.memory(data) > 100_000 + 60 * 20_000


def test_memory_of_a_small_file_is_about_its_size() -> None:
    """Whatever its bytes are."""
    data, work = encode(["api", "name", 5.0, {"data": FILE[:100_000]}]), Work()
    decode(data, work)
    assert 100_000 <= work.memory(data) <= 120_000


def test_too_many_values_are_refused() -> None:
    """Unpacking does not start with an array or map of too many items; it stops at too many in several."""
    with pytest.raises(ProtocolError, match=f"{MAX_VALUES + 1} exceeds max_array_len"):
        decode(array(MAX_VALUES + 1, b"\x01"))
    with pytest.raises(ProtocolError, match=f"made of more than {MAX_VALUES:,} values"):
        decode(b"\x92" + 2 * array(MAX_VALUES // 2, b"\x01"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: [*range(2_000_000)],
        lambda: b"\x90" * 8_000_000,
        lambda: "\u0090" * 1_000_000,
        lambda: [{"id": n, "name": "n", "tags": []} for n in range(100_000)],
        lambda: {"columns": [[1.5] * 1_000_000, ["name"] * 1_000_000]},
        lambda: {n: n for n in range(200_000)},
    ],
    ids=["numbers", "bytes", "text", "rows", "columns", "map of numbers"],
)
@pytest.mark.unmeasured
def test_bulk_data_passes(make: Callable[[], Any]) -> None:
    """It is not mistaken for an attack, whatever its bytes are."""
    value = make()
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [[[]] * MANY, [{}] * MANY, [date(2026, 1, 2)] * MANY, [1] * (MAX_VALUES + 1)])
@pytest.mark.unmeasured
def test_undecodable_data_is_not_sent(value: Any) -> None:
    """The sender gets an error with a remedy."""
    with pytest.raises(
        DeformError, match=r"value cannot be sent in one message: it is made of more than .* Send it in"
    ):
        encode(value)


@pytest.mark.parametrize("text", ["1E+99999", "1E-99999", "1" * 20_000, "9E+999999999999999999", "1e10001"])
def test_excessive_decimal_is_refused(text: str) -> None:
    """A few bytes may represent a number that fills all memory when it is printed: refused by sender and receiver."""
    with pytest.raises(DeformError, match="a Decimal of"):
        encode(Decimal(text))
    with pytest.raises(ProtocolError, match="a Decimal of"):
        decode(b"\xc8" + len(text).to_bytes(2, "big") + b"\x06" + text.encode())


@pytest.mark.parametrize("text", ["1E+9999", "-1E-9999", "1" * 9_999, "NaN", "-Infinity", "sNaN", "0.1", "-0"])
def test_other_decimals_pass(text: str) -> None:
    """All that Python's default context can compute with are sent."""
    assert str(decode(encode(Decimal(text)))) == text


def test_error_does_not_repeat_received_data() -> None:
    """Data from a stranger is not in a log line, however long it is."""
    with pytest.raises(ProtocolError, match="cannot be decoded") as caught:
        decode(b"\xc8\xff\xff\x01" + b"2" * 65535)
    assert len(str(caught.value)) < 500
