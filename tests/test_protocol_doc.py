"""docs/protocol.md, held against the code: no message, field or key is missing on either side, no vector wrong."""

from __future__ import annotations

import ast
import re
import typing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightbus.core.partitions import partition_of
from lightbus.engine.schedule_election import GRACE, RETELL, SCHEDULES_API, SchedulesApi
from lightbus.exceptions import LightbusException
from lightbus.wire import codec, envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo
from lightbus.wire.envelope import Kind, Record
from lightbus.wire.error_codes import error_for_code

DOCUMENT = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")

TYPES = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "float": float,
    "bool": bool,
    "map": dict[str, Any],
    "any": Any,
    "map or nil": dict[str, Any] | None,
    "str or nil": str | None,
}
"""What the code declares for a type of the document; a `list` is any list."""


class Section(NamedTuple):
    """A message as the document describes it."""

    number: int
    name: str
    direction: str
    text: str


def part(title: str) -> str:
    """Return the text under a heading of the second level."""
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called so, without the marks of code around a cell."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return found


def sections() -> list[Section]:
    """Return the messages of the document."""
    heads = re.split(r"^### (\d+) ([A-Z]+): (.+)$", part("Messages"), flags=re.MULTILINE)[1:]
    return [Section(int(n), name, way, text) for n, name, way, text in zip(*[iter(heads)] * 4, strict=True)]


def declared(fields: list[list[str]]) -> dict[str, object]:
    """Return the types of a table of fields as the code would declare them."""
    return {name: list if kind == "list" else TYPES[kind] for name, kind, _ in fields}


def in_code(cls: type) -> dict[str, object]:
    """Return the declared types of a message, lists without their item types."""
    hints = typing.get_type_hints(cls)
    return {name: list if typing.get_origin(hint) is list else hint for name, hint in hints.items()}


def block(text: str, language: str) -> list[str]:
    """Return the lines of the one code block of a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return str(found).splitlines()


def fields_and_bytes(lines: list[str]) -> tuple[list[Any], bytes]:
    """Return a vector's fields, written as in Python, and its bytes in hexadecimal; both may take several lines."""
    split = next(number for number, line in enumerate(lines) if re.fullmatch("[0-9a-f]+", line))
    return ast.literal_eval("\n".join(lines[:split])), bytes.fromhex("".join(lines[split:]))


SECTIONS = sections()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_message_has_the_fields_of_the_document(section: Section) -> None:
    """Number, fields, their order and types are the same in the document and in the code, and each is explained."""
    cls = getattr(envelope, section.name.title())
    fields = rows(section.text, "field")
    assert Kind(section.number).name == section.name
    assert list(declared(fields).items()) == list(in_code(cls).items())
    assert all(meaning.endswith(".") for _, _, meaning in fields)
    who = "engine|channel|worker|publisher|consumer"
    whom = f"{who}|subscribers|one subscriber"
    assert re.fullmatch(rf"({who}) [→↔] ({whom})(, \w+)?", section.direction)


def test_no_message_is_missing() -> None:
    """The document has every message of the code, in the order of their numbers, and no other."""
    assert [(section.number, section.name) for section in SECTIONS] == [(kind.value, kind.name) for kind in Kind]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_vector_holds_both_ways(section: Section) -> None:
    """The fields of a vector encode to its bytes, and its bytes decode to the fields."""
    lines = block(section.text, "vector")
    topic = b""
    if lines[0].startswith("topic "):
        topic = ast.literal_eval(lines.pop(0).removeprefix("topic "))
    call_id = int(lines.pop(0).removeprefix("call id "))
    fields, frame = fields_and_bytes(lines)
    message = getattr(envelope, section.name.title())(*fields)
    assert topic + envelope.encode(message, call_id) == frame
    assert envelope.decode(frame[len(topic) :]) == (call_id, message)
    if topic:
        assert envelope.decode_published(frame) == (topic, message)


def test_published_vectors_show_their_topics() -> None:
    """The topics of the vectors are those that the code makes from the names."""
    vectors = {section.name: block(section.text, "vector")[0] for section in SECTIONS}
    topic = envelope.event_topic("auth", "user_registered", 4)
    assert vectors["EVENTS"] == f"topic {topic!r}"
    assert vectors["MARKER"] == f"topic {envelope.marker_topic(bytes(range(16)))!r}"
    assert {name for name, line in vectors.items() if line.startswith("topic ")} == {"EVENTS", "MARKER", "HEAD"}


def test_the_record_of_an_event() -> None:
    """A record has the fields of the document, and its vector holds both ways."""
    text = part("Events")
    assert list(declared(rows(text, "field")).items()) == list(in_code(Record).items())
    fields, data = fields_and_bytes(block(text, "record"))
    assert envelope.encode_record(Record(*fields)) == data
    assert envelope.decode_record(data) == Record(*fields)


@pytest.mark.parametrize(("code", "name", "_", "shown", "encoded"), rows(DOCUMENT, "code"))
def test_an_extension_type(code: str, name: str, _: str, shown: str, encoded: str) -> None:
    """The bytes of an extension decode to the documented value and type, and the value encodes to the bytes."""
    data = bytes.fromhex(encoded)
    value = codec.decode(data)
    assert (type(value).__name__, str(value)) == (name, shown)
    assert codec.encode(value) == data
    assert int(code) in data[:3]  # behind the kind of extension and, where that has none of its own, the length


def test_the_document_has_every_extension_type() -> None:
    """The codes count from 1 without a gap, and the one behind the last is unknown."""
    codes = [int(row[0]) for row in rows(DOCUMENT, "code")]
    assert codes == list(range(1, len(codes) + 1))
    with pytest.raises(LightbusException, match=f"unknown extension type {len(codes) + 1}"):
        codec.decode(bytes([0xD4, len(codes) + 1, 0]))


@pytest.mark.parametrize(("key", "partition"), rows(part("Events"), "key"))
def test_partitions_of_keys(key: str, partition: str) -> None:
    """The partition of a key is that of the document."""
    assert partition_of(key, envelope.PARTITIONS) == int(partition)


def test_keys_of_an_announcement() -> None:
    """The short and the complete announcement have the documented keys, in that order."""
    text = part("Announcement")
    names: dict[str, Any] = {"bus": "b", "instance": "4f2a00112233445d", "service": "s", "process": "p", "host": "h"}
    ports: dict[str, Any] = {"addresses": ("127.0.0.1",), "rpc_port": 1, "event_port": 2, "fingerprint": "f"}
    full = Announcement(**names, **ports, apis=(ApiInfo(name="auth"),), directory="/run/lightbus")
    partial = Announcement(**names, **ports, api_names=("auth",))
    txt = [key for key, _ in rows(text, "key")]
    further = [key for key, _ in rows(text.partition("these besides:")[2], "key")]
    assert sorted(key.decode() for key in full.to_txt()) == sorted(txt)
    assert full.to_wire().keys() | partial.to_wire().keys() == {*txt, *further}
    [entry] = [meaning for key, meaning in rows(text.partition("these besides:")[2], "key") if key == "apis"]
    assert len(ApiInfo(name="auth").to_wire()) == len(entry.partition("`[")[2].partition("]`")[0].split(", "))


@pytest.mark.parametrize(("code", "started", "when"), rows(part("Errors"), "code"))
def test_codes_of_errors(code: str, started: str, when: str) -> None:
    """Each code of the document is that of one of our error classes."""
    assert error_for_code(code).code == code
    assert started in ("true", "false", "both")
    assert when.endswith(".")


def test_numbers_of_the_document() -> None:
    """The sizes in the text are those in the code."""
    assert f"Version {envelope.PROTOCOL_VERSION}." in DOCUMENT
    assert f"There are {envelope.PARTITIONS} partitions." in DOCUMENT
    assert f"at most {codec.MAX_DEPTH} levels deep" in DOCUMENT
    assert envelope.MARKER_PREFIX == b"\xff"


def test_the_note_about_a_schedule() -> None:
    """The documented parameters are those of the procedure that receives it, with the same types."""
    table = DOCUMENT.partition("| parameter of `note` |")[2].partition("\n\n")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, flags=re.MULTILINE))
    taken = {name: kind for name, kind in typing.get_type_hints(SchedulesApi.note).items() if name != "return"}
    assert {name: TYPES[kind] for name, kind in documented.items()} == taken
    assert f"procedure of `{SCHEDULES_API}`" in DOCUMENT
    assert f"repeated every {RETELL:.0f} s" in DOCUMENT
    assert f"within {GRACE:.0f} s is left out" in DOCUMENT
