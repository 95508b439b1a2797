"""The outbox: what is put in waits for all processes of the host, in order, and goes out once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus.exceptions import JournalError
from lightbus.io.outbox import Outbox


def put(outbox: Outbox, id: str, api: str = "auth") -> None:
    """Put an event in."""
    outbox.put(id=id, api=api, event="seen", key=None, record=id.encode())


def test_what_is_put_in_waits_in_order(tmp_path: Path) -> None:
    """Also for another process; the same id once; what was delivered is out."""
    for id in ("b", "a", "c", "a"):
        put(Outbox(tmp_path / "shop"), id)
    put(Outbox(tmp_path / "shop"), "x", api="other")
    other = Outbox(tmp_path / "shop")
    assert [each.record for each in other.waiting(["auth"])] == [b"b", b"a", b"c"]
    assert [each.id for each in other.waiting(limit=2)] == ["b", "a"]
    assert other.counts() == {"auth": 3, "other": 1}
    other.delivered(["a", "b"])
    assert [each.id for each in other.waiting()] == ["c", "x"]


def test_a_look_costs_nothing_and_makes_nothing(tmp_path: Path) -> None:
    """Whether there is an outbox is seen without opening one, and so is whether it changed."""
    outbox = Outbox(tmp_path)
    assert (Outbox.exists(tmp_path), outbox.state()) == (False, None)
    put(outbox, "a")
    before = outbox.state()
    assert Outbox.exists(tmp_path)
    assert outbox.waiting()
    assert outbox.state() == before
    put(outbox, "b")
    assert outbox.state() != before


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    """That there is such an event is known to every process, and once is enough."""
    for _ in range(2):
        Outbox(tmp_path).note_seen("auth", "seen")
    assert Outbox(tmp_path).seen("auth") == {"seen"}
    assert Outbox(tmp_path).seen("other") == set()


def test_one_hands_off_at_a_time(tmp_path: Path) -> None:
    """The second is told no, until the first has finished."""
    put(Outbox(tmp_path), "a")
    with Outbox(tmp_path).hold() as first, Outbox(tmp_path).hold() as second:
        assert (first, second) == (True, False)
    with Outbox(tmp_path).hold() as third:
        assert third


def test_an_outbox_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names it and says what to do."""
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(JournalError, match=r"outbox\.sqlite did not take an event"):
        put(Outbox(tmp_path / "shop"), "a")
    (tmp_path / "outbox.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match=r"outbox\.sqlite cannot be read"):
        Outbox(tmp_path).waiting()
