"""The message table, and how a message becomes one frame and back."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightbus.exceptions import DeformError, ProtocolError
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import (
    EVENT_TOPIC_PARTS,
    MARKER_PREFIX,
    PARTITIONS,
    PROTOCOL_VERSION,
    Cancel,
    Error,
    Events,
    Hello,
    Kind,
    Marker,
    Message,
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
    subscription,
)

CLASSES: dict[Kind, type[Message]] = {kind: getattr(envelope, kind.name.title()) for kind in Kind}
HEAD = 10

text = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | text | st.binary(max_size=20) | st.dates() | st.uuids()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
maps = st.dictionaries(text, values, max_size=4)

# What a field of each declared type may hold.
OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    bytes: st.binary(max_size=50),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    Any: values,
    list[str]: st.lists(text, max_size=4),
    list[Any]: st.lists(values, max_size=4),
    dict[str, Any]: maps,
    dict[str, Any] | None: st.none() | maps,
    str | None: st.none() | text,
}

# What a field of each declared type must not hold. (A whole number may stand for a float.)
NOT_OF_TYPE: dict[Any, list[Any]] = {
    str: [None, 1, b"a", ["a"]],
    bytes: [None, "a", [1]],
    int: [None, "1", 1.5, [1]],
    float: [None, "1", [1.0], date(2026, 1, 1)],
    bool: [None, 0, "true"],
    Any: [],
    list[str]: [None, "a", {}],
    list[Any]: [None, "a", {}],
    dict[str, Any]: [None, [], "a"],
    dict[str, Any] | None: [[], "a", 0],
    str | None: [1, b"a"],
}


def types_of(kind: Kind) -> list[Any]:
    """Return the declared types of a message's fields, in order."""
    return list(typing.get_type_hints(CLASSES[kind]).values())


def messages(kind: Kind) -> st.SearchStrategy[Message]:
    """Return any message of a kind."""
    fields = st.tuples(*(OF_TYPE[declared] for declared in types_of(kind)))
    make: Callable[..., Message] = CLASSES[kind]
    return fields.map(lambda values: make(*values))


any_message = st.sampled_from(Kind).flatmap(messages)
any_record = st.builds(Record, text, OF_TYPE[int], numbers, maps)
published = st.builds(Events, text, text, st.lists(values, max_size=4)) | st.builds(Marker, text, OF_TYPE[int])
call_ids = st.integers(0, 2**64 - 1)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name != "*"
)
partitions = st.integers(0, PARTITIONS - 1)


def sample(kind: Kind) -> Message:
    """Return the simplest message of a kind."""
    empty = {str: "", bytes: b"", int: 0, float: 0.0, bool: False, Any: None, dict[str, Any]: {}}
    make: Callable[..., Message] = CLASSES[kind]
    return make(*(empty.get(declared, [] if "list" in str(declared) else None) for declared in types_of(kind)))


def reads(data: bytes, read: Callable[[bytes], object]) -> None:
    """Read bytes with a function that may say ProtocolError, and nothing else."""
    with suppress(ProtocolError):
        read(data)


@given(any_message, call_ids)
def test_decoding_what_was_encoded_gives_the_same_message(message: Message, call_id: int) -> None:
    """Encode then decode is the identity, for every kind and every call id."""
    frame = encode(message, call_id)
    assert decode(frame) == (call_id, message)
    assert type(decode(frame)[1]) is type(message)
    assert call_id_of(frame) == call_id


@given(any_record)
def test_a_record_survives(record: Record) -> None:
    """An event encoded once is the same wherever it is read."""
    assert decode_record(encode_record(record)) == record


@given(some=st.lists(any_record, max_size=5))
def test_records_survive_together(some: list[Record]) -> None:
    """Decoded at once they are what they are one by one."""
    assert envelope.decode_records([encode_record(record) for record in some]) == some


@given(before=st.lists(any_record, max_size=3), data=st.binary(max_size=20), after=st.lists(any_record, max_size=3))
def test_records_of_which_one_is_none(before: list[Record], data: bytes, after: list[Record]) -> None:
    """Any bytes among them give records or ProtocolError, nothing else."""
    encoded = [encode_record(record) for record in before]
    with suppress(ProtocolError):
        envelope.decode_records([*encoded, data, *(encode_record(record) for record in after)])


@given(published, names, names, partitions)
def test_what_is_published_survives(message: Events | Marker, api: str, event: str, partition: int) -> None:
    """A published message arrives with its topic, be that of an event or of a marker."""
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
    """Whatever bytes arrive, there is a message or a ProtocolError, and nothing else."""
    for read in (decode, decode_published, decode_record):
        reads(data, read)
    assert call_id_of(data) >= 0


@given(st.sampled_from(Kind), st.lists(values, max_size=10) | values)
def test_any_fields_are_read_or_refused(kind: Kind, fields: Any) -> None:
    """A head of ours with any value behind it gives a message or a ProtocolError."""
    reads(bytes([kind, PROTOCOL_VERSION]) + bytes(8) + codec.encode(fields), decode)
    reads(codec.encode(fields), decode_record)


@given(any_message, st.data())
def test_mutated_frames_are_read_or_refused(message: Message, data: st.DataObject) -> None:
    """A frame that was damaged anywhere gives a message or a ProtocolError, alone and behind a topic."""
    frame = encode(message)
    start = data.draw(st.integers(0, len(frame)))
    end = data.draw(st.integers(start, min(len(frame), start + 3)))
    mutated = frame[:start] + data.draw(st.binary(max_size=3)) + frame[end:]
    reads(mutated, decode)
    reads(event_topic("auth", "seen", 3) + mutated, decode_published)
    reads(mutated[HEAD:], decode_record)


@pytest.mark.parametrize("kind", Kind)
def test_fields_of_a_later_version_are_ignored(kind: Kind) -> None:
    """What stands behind the fields we know was added later, and does no harm."""
    message = sample(kind)
    frame = encode(message)[:HEAD] + codec.encode([*message, "later", {"even": "later"}])
    assert decode(frame) == (0, message)


@pytest.mark.parametrize("kind", [kind for kind in Kind if types_of(kind)])
def test_a_field_too_few_is_refused(kind: Kind) -> None:
    """A message lacks no field but those at its end that were added later: these have their defaults then."""
    message = sample(kind)
    defaults: dict[str, Any] = getattr(type(message), "_field_defaults")  # noqa: B009 - mypy knows no such thing of a union
    least = len(message) - len(defaults)
    for number in range(least, len(message)):
        _, short = decode(encode(message)[:HEAD] + codec.encode([*message][:number]))
        assert [*short] == [*message[:number], *[*defaults.values()][number - least :]]
    with pytest.raises(ProtocolError, match=f"A {kind.name} message needs an array of {len(message)} fields"):
        decode(encode(message)[:HEAD] + codec.encode([*message][: least - 1]))


@pytest.mark.parametrize(
    ("kind", "number", "value"),
    [
        (kind, number, value)
        for kind in Kind
        for number, declared in enumerate(types_of(kind))
        for value in NOT_OF_TYPE[declared]
    ],
)
def test_a_field_of_another_type_is_refused(kind: Kind, number: int, value: Any) -> None:
    """Each field holds what the table says, so nobody behind has to look again."""
    fields = [*sample(kind)]
    fields[number] = value
    with pytest.raises(ProtocolError, match=f"A {kind.name} message has a field of the wrong type"):
        decode(encode(sample(kind))[:HEAD] + codec.encode(fields))


@pytest.mark.parametrize("fields", [None, {}, "fields", 7, b""])
def test_fields_that_are_no_array_are_refused(fields: Any) -> None:
    """Even a message without fields has an array."""
    with pytest.raises(ProtocolError, match="CANCEL message needs an array of 0 fields"):
        decode(encode(Cancel())[:HEAD] + codec.encode(fields))


@pytest.mark.parametrize("kind", [0, 27, 31, 35, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    """A kind that is not in the table is named in the error."""
    with pytest.raises(ProtocolError, match=f"Unknown kind of message: {kind}\\."):
        decode(bytes([kind]) + encode(Cancel())[1:])


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 255])
def test_another_version_is_refused(version: int) -> None:
    """A peer of another protocol version is told which versions meet here, and its call id is known."""
    frame = bytearray(encode(Cancel(), 7))
    frame[1] = version
    with pytest.raises(ProtocolError, match=f"speaks protocol version {version}, this process version 1"):
        decode(bytes(frame))
    assert call_id_of(bytes(frame)) == 7


def test_a_short_frame_has_no_call_id() -> None:
    """A frame without a whole head is refused with its size, and answered to nobody."""
    with pytest.raises(ProtocolError, match="of 9 bytes is too short: its head alone has 10"):
        decode(b"\x01" * 9)
    assert call_id_of(b"\x01" * 9) == 0


def test_what_cannot_be_sent_is_named() -> None:
    """The path to the value begins at the message's own field."""
    request = Request("t", "auth", "check", 1.0, "c", [], None, 0, {"when": {"deep": object()}})
    with pytest.raises(DeformError, match=r"kwargs\.when\.deep is an object"):
        encode(request)
    with pytest.raises(DeformError, match=r"kwargs\.user is an object"):
        encode_record(Record("id", 1, 0.0, {"user": object()}))


@pytest.mark.parametrize(
    "fields",
    [None, [], ["id", 1, 0.0], [1, 1, 0.0, {}], ["id", "1", 0.0, {}], ["id", 1, "now", {}], ["id", 1, 0.0, []]],
)
def test_a_record_of_another_form_is_refused(fields: Any) -> None:
    """A record has an id, a version, a time and arguments."""
    with pytest.raises(ProtocolError, match="An event's record needs an id"):
        decode_record(codec.encode(fields))


def test_a_record_of_a_later_version() -> None:
    """Fields added behind are ignored."""
    assert decode_record(codec.encode(["id", 1, 0.5, {"a": 1}, "later"])) == Record("id", 1, 0.5, {"a": 1})


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0, 2**64 - 1])
def test_numbers_at_the_edge(value: float) -> None:
    """Seconds may be any number, whole or infinite."""
    request = Request("t", "a", "p", value, "c", [], None, 0, {})
    assert decode(encode(request)) == (0, request)


@given(names, names, partitions)
def test_a_subscription_matches_its_event(api: str, event: str, partition: int) -> None:
    """A subscription to an event covers all of its partitions, and one to `*` all events of the API."""
    topic = event_topic(api, event, partition)
    assert topic.startswith(subscription(api, event))
    assert topic.startswith(subscription(api, "*"))
    assert topic.count(b"\0") == EVENT_TOPIC_PARTS


@given(names, names, names, names, partitions)
@example("auth", "user", "auth2", "user", 0)
@example("auth", "user", "auth", "user_registered", 0)
@example("auth2", "user", "auth", "user", 0)
@example("auth", "user_registered", "auth", "user", 15)
def test_a_subscription_matches_nothing_else(api: str, event: str, other: str, fired: str, partition: int) -> None:
    """A name that begins like another one is another one, though subscriptions are prefixes."""
    topic = event_topic(other, fired, partition)
    assert topic.startswith(subscription(api, event)) is ((api, event) == (other, fired))
    assert topic.startswith(subscription(api, "*")) is (api == other)


@given(names, names, partitions, st.binary(min_size=16, max_size=16))
def test_markers_come_after_every_topic(api: str, event: str, partition: int, unique: bytes) -> None:
    """Subscriptions reach a publisher in order, so its marker tells that all are in force; no event looks like one."""
    marker = marker_topic(unique)
    assert marker > event_topic(api, event, partition)
    assert marker > subscription(api, event)
    assert marker.startswith(MARKER_PREFIX)
    assert not event_topic(api, event, partition).startswith(MARKER_PREFIX)


def test_topics_have_fixed_width_partitions() -> None:
    """Partition 1 is no prefix of partition 16."""
    assert event_topic("auth", "seen", 1) == b"auth\0seen\0" + b"01\0"
    assert event_topic("auth", "seen", 15) == b"auth\0seen\0" + b"0f\0"


@pytest.mark.parametrize("frame", [b"auth", b"auth\0seen", b"auth\0seen\0" + b"01"])
def test_a_published_frame_without_a_topic_is_refused(frame: bytes) -> None:
    """A topic has three parts, each with its end."""
    with pytest.raises(ProtocolError, match="no topic of the form"):
        decode_published(frame)


def test_messages_read_well_in_a_log() -> None:
    """A message shows its kind and its fields by name."""
    assert repr(Error("busy", "no", False, {})) == "Error(code='busy', message='no', started=False, details={})"
    assert Hello("b", "", "i", "s", "p", "", None).target == ""
