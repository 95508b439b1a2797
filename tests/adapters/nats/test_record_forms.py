"""The valid forms of group records."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.adapters.nats.record_forms import read_record

INFO = {"name": "mail", "events": ["sold"], "start": 3}
PARTITION = {"cursors": {"sold": 4}, "starts": {"sold:5": 1}, "begun_through": 5, "owner": "me"}
DEAD = {"group": "mail", "deliveries": 3, "error": "ValueError: no", "died_at": 17.5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("info.a1", INFO),
        ("info.a1", {**INFO, "past": 2, "created_at": 1.5, "of a later version": True}),
        ("part.a1.63", PARTITION),
        ("part.a1.0", {}),
        ("member.a1.b2", {}),
        ("dead.a1.9", DEAD),
        ("move.journal 1", {"behind": 3, "copied": 4}),
    ],
)
def test_valid_records_are_read(key: str, value: dict[str, Any]) -> None:
    """With all further fields."""
    assert read_record(key, json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("other", {}, "no record has such a key"),
        ("info.a1.b", INFO, "no record has such a key"),
        ("dead.a1.x", DEAD, "no record has such a key"),
        ("info.a1", {**INFO, "start": -1}, "start: "),
        ("info.a1", {**INFO, "start": "3"}, "start: "),
        ("info.a1", {"name": "mail"}, "events: Field required"),
        ("part.a1.1", {**PARTITION, "cursors": {"sold": 1.5}}, "cursors.sold: "),
        ("part.a1.1", {**PARTITION, "starts": {"sold:x": 1}}, "starts.sold:x"),
        ("part.a1.1", [], "it: "),
        ("member.a1.b2", 7, "it: "),
        ("dead.a1.1", {**DEAD, "error": None}, "error: "),
        ("move.a", {"behind": None}, "behind: "),
    ],
)
def test_invalid_records_are_refused(key: str, value: Any, why: str) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=f"^{why}"):
        read_record(key, json.dumps(value).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_invalid_json_is_refused(data: bytes) -> None:
    """Like other invalid records."""
    with pytest.raises(ValueError, match="it is not JSON"):
        read_record("member.a.b", data)


@given(key=st.sampled_from(["info.a", "part.a.1", "member.a.b", "dead.a.1", "move.a", "x"]), data=st.binary())
def test_any_bytes_give_a_record_or_value_error(key: str, data: bytes) -> None:
    """For any bytes."""
    with suppress(ValueError):
        assert isinstance(read_record(key, data), dict)
