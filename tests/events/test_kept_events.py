"""Stored events as plain values: a damaged one hides none of the others."""

from __future__ import annotations

import pytest

from lightbus.events.kept_events import DAMAGED, id_of, readable, record_or_damaged, serialize_kept_event
from lightbus.wire.envelope import Record, encode_record

RECORD = Record("a-1", 2, 17.5, {"user": "sally"})


def test_the_fields_of_a_stored_event() -> None:
    """All fields of its record, and its place."""
    data = encode_record(RECORD)
    assert serialize_kept_event("0123", "auth", "seen", 3, 9, data) == {
        "id": "a-1", "native_id": "0123-9", "api": "auth", "event": "seen", "partition": 3, "version": 2,
        "published_at": 17.5, "kwargs": {"user": "sally"}, "size": len(data),
    }  # fmt: skip
    assert (id_of(data), record_or_damaged(data)) == ("a-1", RECORD)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xc1", encode_record(RECORD)[:-1], b"\x94" * 5000])
def test_an_unreadable_event(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It has a place and a size, and is logged once for its journal."""
    store = f"{hash(data):x}"
    told = [serialize_kept_event(store, "auth", "seen", 3, sequence, data) for sequence in (9, 10)]
    assert told[0] | {"id": "", "kwargs": {}, "published_at": 0.0, "size": len(data)} == told[0]
    assert readable([*told, {"id": "a-1"}]) == [{"id": "a-1"}]
    assert (id_of(data), record_or_damaged(data)) == ("", DAMAGED)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"The event auth.seen at {store}-9 is damaged" in caplog.text
