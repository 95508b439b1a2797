"""Events in a file."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbus import UnsupportedUse
from lightbus.cli.support.recording import Recording, heading, line_of
from lightbus.message import EventMessage

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.uuids()
    | st.datetimes() | st.dates() | st.decimals(allow_nan=False, allow_infinity=False, places=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def message(**kwargs: Any) -> EventMessage:
    return EventMessage(api_name="auth", event_name="seen", kwargs=kwargs, id="1-2", version=3, published_at=17.5)


def written(path: Path, *lines: str) -> Path:
    """Return a file with these lines behind the first one."""
    path.write_text(heading("shop") + "".join(lines), encoding="utf-8")
    return path


@settings(max_examples=40)
@given(value=PLAIN)
def test_whatever_the_bus_carries_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Every value is restored with its type."""
    path = written(tmp_path_factory.getbasetemp() / "events.jsonl", line_of(message(value=value)))
    recording = Recording(path)
    [event] = recording
    assert (recording.bus, event.name, event.line, event.published_at) == ("shop", "auth.seen", 2, 17.5)
    assert event.kwargs == {"value": value}
    assert type(event.kwargs["value"]) is type(value)


def test_lines_are_for_people(tmp_path: Path) -> None:
    """JSON arguments are written once; other values are also written as readable text."""
    plain = json.loads(line_of(message(user="sally", number=[1, 2.5, None])))
    assert plain == {
        "api": "auth", "event": "seen", "version": 3, "id": "1-2", "published_at": 17.5,
        "kwargs": {"user": "sally", "number": [1, 2.5, None]},
    }  # fmt: skip
    other = json.loads(line_of(message(at=datetime(2026, 1, 31, tzinfo=UTC), price=Decimal("1.50"), no=math.nan)))
    assert other["kwargs"]["at"] == "2026-01-31T00:00:00+00:00"
    [event] = Recording(written(tmp_path / "e", json.dumps(other) + "\n"))
    assert math.isnan(event.kwargs["no"])


def test_a_line_that_is_not_whole(tmp_path: Path) -> None:
    """The command was killed while writing it: the lines before are used."""
    line = line_of(message(user="sally"))
    recording = Recording(written(tmp_path / "e", line, "\n", line, line[:20]))
    for _ in range(2):
        assert [event.line for event in recording] == [2, 4]


def test_lines_that_were_changed(tmp_path: Path) -> None:
    """Manual changes are used, unless they contradict `packed`."""
    line = line_of(message(user="sally")).replace("sally", "harry")
    [event] = Recording(written(tmp_path / "e", line))
    assert event.kwargs == {"user": "harry"}
    line = line_of(message(user="sally", at=datetime(2026, 1, 31))).replace("sally", "harry")
    with pytest.raises(UnsupportedUse, match=r"Line 2 of .*e was changed: .*Remove packed from the line"):
        [*Recording(written(tmp_path / "e", line))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Line 1 of .* is not a JSON object"),
        ("{}\n", "holds no events that this version reads"),
        ("[" * 100_000, "Line 1 of .* is not a JSON object"),
        (heading("b") + "\udcff\udcfe\n", "Line 2 of .* is not a JSON object"),
        (heading("b") + "[]\n", "Line 2 of .* is not a JSON object"),
        (heading("b") + "{}\n", "Line 2 of .* is no event: it needs api, event, published_at and kwargs"),
        (heading("b") + line_of(message(a=b"x")).replace('"packed": "', '"packed": "!'), "Line 2 of .* was changed"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str, said: str) -> None:
    """Are named, with the line."""
    (tmp_path / "e").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UnsupportedUse, match=said):
        [*Recording(tmp_path / "e")]
    with pytest.raises(UnsupportedUse, match=r"gone cannot be read: No such file or directory\. `lightbus record"):
        Recording(tmp_path / "gone")
