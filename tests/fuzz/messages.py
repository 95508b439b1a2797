"""Valid random messages of every kind: input for the fuzzer and for property tests."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from lightbus.wire import envelope, field_types
from lightbus.wire.envelope import AnyMessage, Kind, Record

__all__ = ["API", "CLASSES", "EVENTS", "GROUP", "IDS", "JOURNAL", "any_message", "any_record", "kinds_of"]

API, EVENTS, GROUP = "auth", ["seen", "gone"], "shop-greeter"
IDS = ["a" * 16, "b" * 16, "0123456789abcdef"]
JOURNAL = "0000000000000001"
"""Names that a worker under test knows: of messages that name nothing known, little is done."""

CLASSES: dict[Kind, type[AnyMessage]] = {kind: getattr(envelope, kind.name.title()) for kind in Kind}

_SEQUENCES = [0, 1, 2, 5, 2**40, 2**40 + 1, 2**62, 2**63 - 1]
_WORDS = ["", "a", "check", "ü" * 5, "x y", "internal.peer", "0", "$", API, *EVENTS, GROUP]


def _some(random: Random, make: Callable[[], Any], most: int = 3) -> list[Any]:
    return [make() for _ in range(random.randrange(most + 1))]


def any_value(random: Random, depth: int = 3) -> Any:
    """Return a value that a user may send."""
    kind = random.randrange(16 if depth else 13)
    if kind < 13:
        scalars: list[Any] = [
            None, True, 0, random.randrange(-(2**63), 2**64), 2**100, random.random(), random.choice(_WORDS),
            random.randbytes(random.randrange(20)), Decimal("1.50"), UUID(int=random.getrandbits(128)),
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), date(2026, 1, 2), timedelta(1, 2, 3),
        ]  # fmt: skip
        return scalars[kind]
    if kind == 13:
        return _some(random, lambda: any_value(random, depth - 1))
    return {random.choice(_WORDS): any_value(random, depth - 1) for _ in range(random.randrange(4))}


def _arguments(random: Random) -> dict[str, Any]:
    return {random.choice(["n", "value", "watcher"]): any_value(random) for _ in range(random.randrange(3))}


def _name(random: Random) -> str:
    return random.choice(_WORDS)


def _event(random: Random) -> str:
    return random.choice([*EVENTS, "*", f"seen for {GROUP}"])


def _journal(random: Random) -> str:
    return random.choice([JOURNAL, IDS[2]])


def _sequence(random: Random) -> int:
    return random.choice(_SEQUENCES)


def _partitions(random: Random) -> list[int]:
    return sorted(random.sample(range(16), random.randrange(17)))


def _moment(random: Random) -> float:
    return random.choice([0, 0.0, 1.5, 1767323045.5, -1e10, 2.5e11, 1e-300])


def _records(random: Random) -> list[list[Any]]:
    first = random.choice([0, 1, 2**40])
    data = envelope.encode_record(any_record(random))
    return [[first + n + 1, first + n, random.choice([data, b"", b"\xc1"])] for n in range(random.randrange(4))]


def _since(random: Random) -> Any:
    return random.choice([None, "0", "$", "b" * 16 + "-3", f"{JOURNAL}-1", 0, 1767323045.5, datetime(2026, 1, 2)])


def _position(random: Random, numbers: int = 1) -> list[Any]:
    return [_journal(random), _event(random), random.randrange(16), *(_sequence(random) for _ in range(numbers))]


def _announcement(random: Random) -> dict[str, Any]:
    apis = [[API, ["check"], [*EVENTS], 1, False, "", []]]
    more = {"addr": ["127.0.0.1"], "rpc": 5000, "pub": 5001} if random.randrange(2) else {"addr": [], "rpc": 0}
    known = {"v": 1, "bus": "b", "id": random.choice(IDS), "svc": "s", "proc": "p", "host": "h", "pub": 0}
    return {**known, **more, "fp": "", "h": "", "apis": apis}


def _id(random: Random) -> str:
    return random.choice(IDS)


_MADE: dict[Any, Callable[[Random], Any]] = {
    field_types.Instance: _id,
    field_types.AnyInstance: lambda random: random.choice(["", *IDS]),
    field_types.JournalId: _journal,
    field_types.AnyJournal: lambda random: random.choice(["", JOURNAL]),
    field_types.Name: _name,
    field_types.EventName: _event,
    field_types.Digest: _name,
    field_types.Prose: _name,
    field_types.LastError: lambda random: "E" * random.choice([0, 5, 10_000]),
    field_types.Bool: lambda random: random.random() < 0.5,
    field_types.Whole: _sequence,
    field_types.Number: lambda random: random.choice([0, 1, 5, 2**31 - 1]),
    field_types.PartitionNumber: lambda random: random.randrange(16),
    field_types.PointInTime: _moment,
    field_types.Seconds: _moment,
    field_types.Arguments: lambda random: _announcement(random) if random.randrange(2) else _arguments(random),
    field_types.AnyMap: lambda random: random.choice([None, _announcement(random)]),
    field_types.Bytes: lambda random: envelope.encode_record(any_record(random)),
    field_types.Anything: any_value,
    field_types.Since: _since,
    field_types.Partitions: _partitions,
    field_types.EventNames: lambda random: _some(random, lambda: _event(random)),
    field_types.PositionRows: lambda random: _some(random, lambda: _position(random)),
    field_types.StreamRows: lambda random: _some(random, lambda: _position(random, 3)),
    field_types.Chain: lambda random: _some(random, lambda: _id(random)),
    field_types.TraceContext: lambda random: random.choice([None, {"traceparent": "00-1-2-01"}]),
    field_types.EventKey: lambda random: random.choice([None, "", "customer-1"]),
    field_types.EventRows: lambda random: _some(
        random, lambda: [random.choice([None, "customer-1"]), envelope.encode_record(any_record(random))]
    ),
    field_types.WaitFor: lambda random: random.choice(["journal", "ack"]),
    field_types.PeerRows: lambda random: _some(random, lambda: [_announcement(random), 1.5]),
    field_types.Instances: lambda random: _some(random, lambda: _id(random)),
    field_types.PresenceBytes: lambda random: b"\xfe" + random.randbytes(16),
    field_types.GroupRows: lambda random: _some(random, lambda: [API, GROUP]),
    field_types.MemberStates: lambda random: _some(random, lambda: random.choice([[3], [3, _partitions(random)]])),
    field_types.Records: _records,
    field_types.PageRecords: lambda random: [[*row[:2], random.choice([row[2], 7])] for row in _records(random)],
}
"""For what a field holds, something that it may hold. What is new in the table is missing here, and fails at once."""


@functools.cache
def kinds_of(cls: type) -> list[Any]:
    """Return the types of a message's fields, in order."""
    return list(typing.get_type_hints(cls, include_extras=True).values())


def any_message(random: Random, kind: Kind) -> AnyMessage:
    """Return some message of a kind."""
    make: Callable[..., AnyMessage] = CLASSES[kind]
    held = kinds_of(CLASSES[kind])  # type: ignore[arg-type]
    return make(*(_MADE[each](random) for each in held))


def any_record(random: Random) -> Record:
    """Return some event."""
    id = f"{random.choice(IDS)}-{random.randrange(5)}"
    return Record(id, random.choice([0, 1, 2**31]), _moment(random), _arguments(random))
