"""The types of message fields: each has a type and a check, and the bounds are those of the protocol."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from lightbus.wire import field_types
from lightbus.wire.fields import MAX_INT, FieldCheck

NAMES = [name for name in field_types.__all__ if name not in ("MAX_NAME", "PARTITIONS")]


def check_of(name: str) -> FieldCheck:
    """Return the check of a field type."""
    check: FieldCheck = getattr(field_types, name).__metadata__[0]
    return check


@pytest.mark.parametrize("name", NAMES)
def test_each_field_type_has_one_check(name: str) -> None:
    """A type for readers, and a check of received values."""
    hint = getattr(field_types, name)
    kind, *checks = typing.get_args(hint)
    assert len(checks) == 1
    assert callable(checks[0])
    assert kind is Any or isinstance(kind, type) or typing.get_args(kind)


A_PEER = "a" * 16

EDGES: list[tuple[str, Any, Any]] = [
    ("Name", "x" * 512, "x" * 513),
    ("EventName", "x" * 512 + " for " + "x" * 512, "x" * 1041),
    ("Digest", "x" * 64, "x" * 65),
    ("Prose", "x" * 2**20, "x" * (2**20 + 1)),
    ("LastError", "x" * 10_000, "x" * 10_001),
    ("Whole", MAX_INT, MAX_INT + 1),
    ("Number", 2**31 - 1, 2**31),
    ("PartitionNumber", 15, 16),
    ("Partitions", [0] * 16, [0] * 17),
    ("EventNames", ["x"] * 4096, ["x"] * 4097),
    ("PositionRows", [[A_PEER, "x", 0, 1]] * 65_536, [[A_PEER, "x", 0, 1]] * 65_537),
    ("StreamRows", [[A_PEER, "x", 0, 1, 2, 3]], [[A_PEER, "x", 0, 1, 2]]),
    ("Chain", ["x" * 64] * 64, ["x"] * 65),
    ("TraceContext", {str(n): n for n in range(64)}, {str(n): n for n in range(65)}),
    ("EventKey", None, 1),
    ("EventRows", [["key", b""], [None, b""]] * 5000, [["key", b""]] * 10_001),
    ("PeerRows", [[{}, 1.5]] * 4096, [[{}, 1.5]] * 4097),
    ("Instances", [A_PEER] * 4096, [A_PEER] * 4097),
    ("PresenceBytes", b"x" * 64, b"x" * 65),
    ("GroupRows", [["auth", "shop"]], [["auth"]]),
    ("MemberStates", [[7, [0, 15]], [7]], [[7, [16]]]),
    ("Records", [[1, 0, b""]], [[1, 0, 5]]),
    ("PageRecords", [[1, 0, b""], [2, 1, 5]], [[1, 0, -5]]),
    ("PointInTime", 253_402_214_399, 253_402_214_400),
    ("WaitFor", "journal", "disk"),
    ("AnyMap", None, []),
    ("Arguments", {"n": None}, None),
    ("AnyInstance", "", "a"),
    ("AnyJournal", "", "a"),
    ("JournalId", A_PEER, ""),
    ("Instance", A_PEER, ""),
]


@pytest.mark.parametrize(("name", "last", "too_much"), EDGES, ids=[name for name, _, _ in EDGES])
def test_bounds_of_fields_are_part_of_the_protocol(name: str, last: Any, too_much: Any) -> None:
    """The last accepted value, and the first refused one: both sides of the protocol depend on them."""
    assert check_of(name)(last)
    assert not check_of(name)(too_much)


def test_partitions_are_part_of_the_protocol() -> None:
    """Both sides compute with their number: another one would be another protocol."""
    assert field_types.PARTITIONS == 16
