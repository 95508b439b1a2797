"""
The types of message fields: each is a type for readers and type checkers, and a check of received values (`fields.py`).

The bounds of their sizes are here, too.
"""

from typing import Annotated, Any, TypeAlias

from . import fields

__all__ = [
    "MAX_NAME",
    "PARTITIONS",
    "AnyInstance",
    "AnyJournal",
    "AnyMap",
    "Anything",
    "Arguments",
    "Bool",
    "Bytes",
    "Chain",
    "Digest",
    "EventKey",
    "EventName",
    "EventNames",
    "EventRows",
    "GroupRows",
    "Instance",
    "Instances",
    "JournalId",
    "LastError",
    "MemberStates",
    "Name",
    "Number",
    "PageRecords",
    "PartitionNumber",
    "Partitions",
    "PeerRows",
    "PointInTime",
    "PositionRows",
    "PresenceBytes",
    "Prose",
    "Records",
    "Seconds",
    "Since",
    "StreamRows",
    "TraceContext",
    "WaitFor",
    "Whole",
]

PARTITIONS = 16
"""The number of partitions of an event; part of the protocol, since both sides compute with it."""

MAX_NAME = 512
"""Most characters of the name of an API, a procedure, a group, a service or a process."""

MAX_NAMES = 4096
"""Most event names in one message: more than an API can announce, since some are stored again for one group."""

MAX_ROWS = 65_536
"""Most positions and topics in one message: about as many as a consumer remembers."""

MAX_RECORDS = 10_000
"""Most events in one message."""

MAX_PEERS = 4096
MAX_CHAIN = 64
"""Most nested calls in a message: more than a worker executes, so that it can refuse with this reason."""

MAX_TRACE = 64
MAX_BYTES = 2**32
"""Not a bound of its own: `network.max_message_size` bounds the whole message."""

Instance: TypeAlias = Annotated[str, fields.instance_id]
"""The id of an instance: 16 lowercase hexadecimal digits."""
AnyInstance: TypeAlias = Annotated[str, fields.no_instance_or_id]
JournalId: TypeAlias = Annotated[str, fields.instance_id]
AnyJournal: TypeAlias = Annotated[str, fields.no_instance_or_id]
Name: TypeAlias = Annotated[str, fields.text(MAX_NAME)]
EventName: TypeAlias = Annotated[str, fields.text(2 * MAX_NAME + 16)]
"""An event's name may be followed by the only group that gets it, see `event_names`."""
Digest: TypeAlias = Annotated[str, fields.text(64)]
Prose: TypeAlias = Annotated[str, fields.prose(1024 * 1024)]
Bool: TypeAlias = Annotated[bool, fields.flag]
Whole: TypeAlias = Annotated[int, fields.whole(0, fields.MAX_INT)]
"""A count or a sequence."""
Number: TypeAlias = Annotated[int, fields.whole(0, 2**31 - 1)]
PartitionNumber: TypeAlias = Annotated[int, fields.whole(0, PARTITIONS - 1)]
PointInTime: TypeAlias = Annotated[float, fields.moment]
"""Seconds since 1970."""
Seconds: TypeAlias = Annotated[float, fields.number(-fields.MAX_SECONDS, fields.MAX_SECONDS)]
Arguments: TypeAlias = Annotated[dict[str, Any], fields.is_arguments]
AnyMap: TypeAlias = Annotated[dict[str, Any] | None, fields.optional(fields.is_arguments)]
Bytes: TypeAlias = Annotated[bytes, fields.binary(MAX_BYTES)]
Anything: TypeAlias = Annotated[Any, fields.anything]
Since: TypeAlias = Annotated[Any, fields.since]
Partitions: TypeAlias = Annotated[list[Any], fields.listing(PartitionNumber, PARTITIONS)]
EventNames: TypeAlias = Annotated[list[Any], fields.listing(EventName, MAX_NAMES)]
PositionRows: TypeAlias = Annotated[
    list[Any], fields.listing(fields.row(JournalId, EventName, PartitionNumber, Whole), MAX_ROWS)
]
StreamRows: TypeAlias = Annotated[
    list[Any], fields.listing(fields.row(JournalId, EventName, PartitionNumber, Whole, Whole, Whole), MAX_ROWS)
]
Chain: TypeAlias = Annotated[list[str], fields.listing(fields.text(64), MAX_CHAIN)]
TraceContext: TypeAlias = Annotated[dict[str, Any] | None, fields.optional(fields.string_map(MAX_TRACE))]
EventKey: TypeAlias = Annotated[str | None, fields.optional(fields.prose(MAX_BYTES))]
EventRows: TypeAlias = Annotated[list[Any], fields.listing(fields.row(EventKey, Bytes), MAX_RECORDS)]
WaitFor: TypeAlias = Annotated[str, fields.one_of("journal", "ack")]
PeerRows: TypeAlias = Annotated[list[Any], fields.listing(fields.row(fields.is_arguments, Seconds), MAX_PEERS)]
Instances: TypeAlias = Annotated[list[Any], fields.listing(fields.instance_id, MAX_PEERS)]
PresenceBytes: TypeAlias = Annotated[bytes, fields.binary(64)]
GroupRows: TypeAlias = Annotated[list[Any], fields.listing(fields.row(Name, Name), MAX_ROWS)]
LastError: TypeAlias = Annotated[str, fields.prose(10_000)]
MemberStates: TypeAlias = Annotated[
    list[Any], fields.listing(fields.either(fields.row(Whole, Partitions), fields.row(Whole)), MAX_ROWS)
]
Records: TypeAlias = Annotated[list[Any], fields.published_records(MAX_RECORDS)]
PageRecords: TypeAlias = Annotated[list[Any], fields.published_records(MAX_RECORDS, or_sizes=True)]
