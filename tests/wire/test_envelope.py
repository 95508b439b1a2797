"""The message table, and messages <-> frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.messages import CLASSES, kinds_of
from fuzz.messages import any_message as any_message_of
from fuzz.messages import any_record as some_record
from lightbus.exceptions import DeformError, ProtocolError
from lightbus.wire import codec, envelope, field_types
from lightbus.wire.envelope import (
    PARTITIONS,
    PROTOCOL_VERSION,
    AnyMessage,
    Cancel,
    Error,
    Hello,
    Kind,
    Record,
    Request,
    Result,
    call_id_of,
    decode,
    decode_published,
    decode_record,
    encode,
    encode_published,
    encode_record,
    event_topic,
    marker_topic,
)

HEAD = 10

text = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | text | st.binary(max_size=20) | st.dates() | st.uuids()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)

seeds = st.integers(0, 2**32).map(Random)

NO_TEXT = [None, 1, b"a", ["a"]]
NO_ID = [*NO_TEXT, "a", "A" * 16, "g" * 16, "a" * 17]
NO_NAME = [*NO_TEXT, "a\0b", "a" * 2000]
NO_NUMBER = [None, "1", [1.0], date(2026, 1, 1), True, Decimal(1), math.nan, math.inf, -math.inf, 1e300, 2**70]
NO_WHOLE = [*NO_NUMBER, 1.0, -1, 2**63]
NO_MAP = [[], "a", 0, {1: "a"}, {b"a": 1}]
NO_LIST = [None, "a", {}, 7, [None], ["a", 5], [[]]]

# Invalid values of a field, by its check.
REFUSED: dict[Any, list[Any]] = {
    field_types.Instance: ["", *NO_ID],
    field_types.AnyInstance: NO_ID,
    field_types.JournalId: ["", *NO_ID],
    field_types.AnyJournal: NO_ID,
    field_types.Name: NO_NAME,
    field_types.EventName: NO_NAME,
    field_types.Digest: NO_NAME,
    field_types.Prose: [*NO_TEXT, "a" * (1024 * 1024 + 1)],
    field_types.LastError: [*NO_TEXT, "a" * 10_001],
    field_types.Bool: [None, 0, 1, "true"],
    field_types.Whole: NO_WHOLE,
    field_types.Number: [*NO_WHOLE, 2**31],
    field_types.PartitionNumber: [*NO_WHOLE, 16],
    field_types.PointInTime: NO_NUMBER,
    field_types.Seconds: NO_NUMBER,
    field_types.Arguments: [None, *NO_MAP],
    field_types.AnyMap: NO_MAP,
    field_types.Bytes: [None, "a", [1]],
    field_types.Anything: [],
    field_types.Since: [
        "",
        "a" * 513,
        True,
        math.nan,
        math.inf,
        Decimal(1),
        [],
        {},
        b"0",
        datetime.max,
        date(2026, 1, 1),
    ],
    field_types.Partitions: [*NO_LIST, [16], [-1], [1.0], [True], [0] * 17],
    field_types.EventNames: [*NO_LIST, ["a\0b"], ["a"] * 5000],
    field_types.PositionRows: [
        *NO_LIST,
        [["a" * 16, "seen", 0]],
        [["a" * 16, "seen", 16, 1]],
        [["a" * 16, "seen", 0, -1]],
    ],
    field_types.StreamRows: [*NO_LIST, [["a" * 16, "seen", 0, 1, 2]], [["a" * 16, "seen", 0, 1, 2, Decimal(3)]]],
    field_types.Chain: [*NO_LIST, ["a" * 65], ["a"] * 65],
    field_types.TraceContext: [*NO_MAP, {str(n): "" for n in range(65)}],
    field_types.EventKey: [1, b"a"],
    field_types.EventRows: [*NO_LIST, [["key"]], [[1, b"a"]], [["key", "a"]], [["key", b"a", 1]]],
    field_types.WaitFor: [*NO_TEXT, "", "disk"],
    field_types.PeerRows: [*NO_LIST, [[{}]], [[{}, math.nan]], [[{}, "1"]], [[[], 1.0]]],
    field_types.Instances: [*NO_LIST, ["a"], ["a" * 16] * 5000],
    field_types.PresenceBytes: [None, "a", b"a" * 65],
    field_types.GroupRows: [*NO_LIST, [["auth"]], [["auth", 1]]],
    field_types.Records: [
        *NO_LIST,
        [[1, 0]],
        [[1, 0, "a"]],
        [[1, 0, b"", 1]],
        [[1, 1, b""]],
        [[0, -1, b""]],
        [[1.0, 0, b""]],
        [[True, 0, b""]],
        [[2, 1, b""], [1, 0, b""]],
        [[2**63, 0, b""]],
    ],
    field_types.PageRecords: [*NO_LIST, [[1, 0, "a"]], [[1, 0, -1]], [[1, 0, True]], [[1, 1, b""]]],
    field_types.MemberStates: [*NO_LIST, [[1, 2]], [[1, [16]]], [[1.0]], [[1, [], 2]]],
}


def messages(kind: Kind) -> st.SearchStrategy[AnyMessage]:
    """Return any message of a kind."""
    return seeds.map(lambda random: any_message_of(random, kind))


any_message = st.sampled_from(Kind).flatmap(messages)
any_record = seeds.map(some_record)
published = messages(Kind.EVENTS) | messages(Kind.MARKER)
call_ids = st.integers(0, 2**64 - 1)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name != "*"
)
partitions = st.integers(0, PARTITIONS - 1)


def sample(kind: Kind) -> AnyMessage:
    """Return a fixed message of a kind."""
    return any_message_of(Random(kind.value), kind)


def reads(data: bytes, read: Callable[[bytes], object]) -> None:
    """Read bytes with a function that may raise ProtocolError, and nothing else."""
    with suppress(ProtocolError):
        read(data)


@given(any_message, call_ids)
def test_decoding_encoded_messages_gives_the_same_message(message: AnyMessage, call_id: int) -> None:
    """Encode then decode is the identity, for every kind and every call id."""
    frame = encode(message, call_id)
    assert decode(frame) == (call_id, message)
    assert type(decode(frame)[1]) is type(message)
    assert call_id_of(frame) == call_id


@given(published, names, names, partitions)
def test_published_message_round_trip(message: Any, api: str, event: str, partition: int) -> None:
    """It arrives with its topic, of an event or of a marker."""
    topic = event_topic(api, event, partition)
    assert decode_published(encode_published(topic, message)) == (topic, message)
    topic = marker_topic(b"\x00\xff" * 8)
    assert decode_published(encode_published(topic, message)) == (topic, message)


def test_a_frame_begins_with_kind_version_and_call_id() -> None:
    """The head has ten bytes that every version can read; the fields follow as one array."""
    frame = encode(Result("ok"), 0x0102030405060708)
    assert frame == bytes([Kind.RESULT, PROTOCOL_VERSION, 1, 2, 3, 4, 5, 6, 7, 8]) + codec.encode(["ok"])


@given(st.binary(max_size=100))
@example(b"")
@example(b"\xff" * 17)
@example(b"a\0b\0")
@example(b"a\0b\0" + b"00\0")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Any bytes give a message or a ProtocolError, and nothing else."""
    for read in (decode, decode_published, decode_record):
        reads(data, read)
    assert call_id_of(data) >= 0


@given(st.sampled_from(Kind), st.lists(values, max_size=10) | values)
def test_any_fields_are_read_or_refused(kind: Kind, fields: Any) -> None:
    """A valid head with any value after it gives a message or a ProtocolError."""
    reads(bytes([kind, PROTOCOL_VERSION]) + bytes(8) + codec.encode(fields), decode)
    reads(codec.encode(fields), decode_record)


@given(any_message, st.data())
def test_mutated_frames_are_read_or_refused(message: AnyMessage, data: st.DataObject) -> None:
    """A frame damaged anywhere gives a message or a ProtocolError, alone and after a topic."""
    frame = encode(message)
    start = data.draw(st.integers(0, len(frame)))
    end = data.draw(st.integers(start, min(len(frame), start + 3)))
    mutated = frame[:start] + data.draw(st.binary(max_size=3)) + frame[end:]
    reads(mutated, decode)
    reads(event_topic("auth", "seen", 3) + mutated, decode_published)
    reads(mutated[HEAD:], decode_record)


@pytest.mark.parametrize("kind", Kind)
def test_fields_of_a_later_version_are_ignored(kind: Kind) -> None:
    """Additional fields at the end do no harm."""
    message = sample(kind)
    frame = encode(message)[:HEAD] + codec.encode([*message, "later", {"even": "later"}])
    assert decode(frame) == (0, message)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kinds_of(CLASSES[kind])])
def test_missing_field_is_refused(kind: Kind) -> None:
    """Only fields at the end that were added later may be missing: they get their defaults."""
    message = sample(kind)
    defaults: dict[str, Any] = getattr(type(message), "_field_defaults")  # noqa: B009 - mypy knows no such thing of a union
    least = len(message) - len(defaults)
    for number in range(least, len(message)):
        _, short = decode(encode(message)[:HEAD] + codec.encode([*message][:number]))
        assert [*short] == [*message[:number], *[*defaults.values()][number - least :]]
    with pytest.raises(ProtocolError, match=f"A {kind.name} message needs an array of {len(message)} fields"):
        decode(encode(message)[:HEAD] + codec.encode([*message][: least - 1]))


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind in Kind for number in range(len(kinds_of(CLASSES[kind])))]
)
def test_a_field_of_another_type_or_range_is_refused(kind: Kind, number: int) -> None:
    """Each field holds what the table says, so no later check is needed; the error names the field."""
    for value in REFUSED[kinds_of(CLASSES[kind])[number]]:
        fields = [*sample(kind)]
        fields[number] = value
        name = sample(kind)._fields[number]
        with pytest.raises(ProtocolError, match=f"A {kind.name} message has a field of the wrong type.*`{name}`"):
            decode(encode(sample(kind))[:HEAD] + codec.encode(fields))


@pytest.mark.parametrize("fields", [None, {}, "fields", 7, b""])
def test_fields_that_are_no_array_are_refused(fields: Any) -> None:
    """Even a message without fields has an array."""
    with pytest.raises(ProtocolError, match="CANCEL message needs an array of 0 fields"):
        decode(encode(Cancel())[:HEAD] + codec.encode(fields))


@pytest.mark.parametrize("kind", [0, 28, 31, 35, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    """A kind that is not in the table is named in the error."""
    with pytest.raises(ProtocolError, match=f"Unknown kind of message: {kind}\\."):
        decode(bytes([kind]) + encode(Cancel())[1:])


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 255])
def test_another_version_is_refused(version: int) -> None:
    """The error names both protocol versions, and the call id is known."""
    frame = bytearray(encode(Cancel(), 7))
    frame[1] = version
    with pytest.raises(ProtocolError, match=f"speaks protocol version {version}, this process version 1"):
        decode(bytes(frame))
    assert call_id_of(bytes(frame)) == 7


def test_a_short_frame_has_no_call_id() -> None:
    """A frame without a whole head is refused with its size, and not answered."""
    with pytest.raises(ProtocolError, match="of 9 bytes is too short: its head alone has 10"):
        decode(b"\x01" * 9)
    assert call_id_of(b"\x01" * 9) == 0


def test_unsendable_value_is_named() -> None:
    """The path to the value begins with the message's field."""
    request = Request("a" * 16, "auth", "check", 1.0, "c" * 16, [], None, 0, {"when": {"deep": object()}})
    with pytest.raises(DeformError, match=r"kwargs\.when\.deep is an object"):
        encode(request)
    with pytest.raises(DeformError, match=r"kwargs\.user is an object"):
        encode_record(Record("id", 1, 0.0, {"user": object()}))


@given(st.data())
def test_any_value_in_any_field_is_read_or_refused(data: st.DataObject) -> None:
    """Any value in a field of a valid message gives a message or a ProtocolError."""
    kind = data.draw(st.sampled_from([kind for kind in Kind if kinds_of(CLASSES[kind])]))
    values_of = [*data.draw(messages(kind))]
    values_of[data.draw(st.integers(0, len(values_of) - 1))] = data.draw(values)
    reads(encode(sample(kind))[:HEAD] + codec.encode(values_of), decode)


@pytest.mark.parametrize("frame", [b"auth", b"auth\0seen", b"auth\0seen\0" + b"01"])
def test_a_published_frame_without_a_topic_is_refused(frame: bytes) -> None:
    """A topic has three parts, each with its NUL."""
    with pytest.raises(ProtocolError, match="no topic of the form"):
        decode_published(frame)


def test_messages_are_readable_in_a_log() -> None:
    """A message shows its kind and its fields by name."""
    assert repr(Error("busy", "no", False, {})) == "Error(code='busy', message='no', started=False, details={})"
    assert Hello("b", "", "i", "s", "p", "", None).target == ""


@pytest.mark.parametrize("value", [0, 0.0, -1, 253_402_300_799])
def test_seconds_may_be_whole_or_negative(value: float) -> None:
    """Both are accepted."""
    request = Request("a" * 16, "a", "p", value, "c" * 16, [], None, 0, {})
    assert decode(encode(request)) == (0, request)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", ["a"]),
        ("target", "b"),
        ("left", True),
        ("left", 1e300),
        ("left", math.nan),
        ("chain", None),
        ("chain", [1]),
        ("trace", []),
        ("trace", {1: 2}),
        ("stall_count", False),
        ("stall_count", -1),
        ("stall_count", 2**63),
        ("kwargs", []),
        ("kwargs", {b"a": 1}),
    ],
)
def test_repeated_request_is_still_checked(field: str, value: Any) -> None:
    """Names that have passed once are known; everything else in a request is checked each time."""
    request = Request("a" * 16, "auth", "check", 1.0, "c" * 16, [], None, 0, {"user": "admin"})
    assert decode(encode(request, 7)) == (7, request)
    assert decode(encode(request, 8)) == (8, request)
    frame = encode(request, 9)[:HEAD] + codec.encode([*request._replace(**{field: value})])
    with pytest.raises(ProtocolError, match=f"REQUEST message has a field .* `{field}` is"):
        decode(frame)


@given(request=messages(Kind.REQUEST) | messages(Kind.RESULT), call_id=call_ids)
def test_frames_without_a_message_are_equal(request: Request | Result, call_id: int) -> None:
    """Requests and results are encoded from their values: the frame is that of the message."""
    if isinstance(request, Request):
        assert envelope.encode_request([*request], call_id) == encode(request, call_id)
    else:
        assert envelope.encode_result(request.value, call_id) == encode(request, call_id)


def test_unsendable_arguments_are_named() -> None:
    """By their path, as in any message."""
    values = ["a" * 16, "auth", "check", 1.0, "c" * 16, [], None, 0, {"user": [object()]}]
    with pytest.raises(DeformError, match=r"kwargs\.user\[0\]"):
        envelope.encode_request(values, 1)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_a_valid_frame_takes_the_short_way(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one with a field that was added later, which `_is_request` must know: the long way costs twice as much."""
    monkeypatch.setattr(envelope, "_decode_any", lambda frame, work: pytest.fail("took the long way"))
    monkeypatch.setattr(codec, "SHORT", 1_000_000)  # the length of a frame is not the subject
    message = sample(kind)
    for _ in range(2):  # the names of a request are known the second time
        assert decode(encode(message, 7)) == (7, message)


def test_remembered_request_names_are_bounded() -> None:
    """A peer that calls ever new procedures cannot make us remember them all."""
    for number in range(2 * envelope.MOST_KNOWN + 1):
        request = Request("a" * 16, "auth", f"check_{number}", 1.0, "c" * 16, ["x"], {"a": "b"}, 1, {})
        assert decode(encode(request)) == (0, request)
        assert len(envelope._known_requests) <= envelope.MOST_KNOWN
