"""Events and calls as a line for people, and as an object for programs."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.support.acks import GroupAck
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.message_lines import event_fields, show_ack, show_call, show_event
from lightbus.cli.support.output import Output
from lightbus.message import EventMessage

AUTH = peer("auth", instance="a" * 16)
SEEN = EventMessage(
    api_name="auth", event_name="seen", id="i-1", native_id="j-7", publisher="a" * 16, kwargs={"n": 1}, published_at=1.0
)
CALL: dict[str, Any] = {
    "number": 1, "at": 1.0, "api": "auth", "procedure": "check", "caller": "b" * 16, "caller_service": "shop",
    "kwargs": {"name": "x"}, "kwargs_bytes": 9, "result": True, "result_bytes": 1, "cut": [], "error": None,
    "message": None, "seconds": 0.002,
}  # fmt: skip


def bus(*, as_json: bool = False) -> Connection:
    """Return a bus with one peer."""
    snapshot = SimpleNamespace(peers={AUTH.instance: AUTH})
    client = SimpleNamespace(engine=SimpleNamespace(snapshot=snapshot))
    return cast(Connection, SimpleNamespace(output=Output(as_json=as_json), client=client))


def test_event_line_has_time_name_arguments_and_publisher(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, name, arguments, who published it; all its fields for programs."""
    show_event(bus(), event_fields(SEEN))
    show_event(bus(as_json=True), event_fields(SEEN))
    line, told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"1970-01-01 \S+  auth\.seen  \{\"n\": 1\}  auth aaaa", line)
    assert json.loads(told) == {
        "type": "event", "id": "i-1", "native_id": "j-7", "api": "auth", "event": "seen", "version": 1,
        "published_at": 1.0, "publisher": "a" * 16, "kwargs": {"n": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 'auth.check(name="x") = true  2.0 ms  shop bbbb at auth aaaa'),
        ({"error": "E", "message": "auth.check raised E: no"}, 'auth.check(name="x") raised E: no  2.0 ms'),
        ({"error": "cancelled", "message": "given up"}, 'auth.check(name="x") failed: given up'),
        ({"cut": ["kwargs", "result"], "kwargs_bytes": 40_000}, "auth.check(40.0 kB) = 1 B"),
    ],
    ids=["answered", "raised", "failed", "too large"],
)
def test_call_line_has_arguments_outcome_and_duration(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], expected: str
) -> None:
    """A line has arguments, outcome, duration, caller and worker."""
    show_call(bus(), AUTH, CALL | changes)
    assert expected in capsys.readouterr().out


def test_a_call_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Its fields, but for the number, and the worker's."""
    show_call(bus(as_json=True), AUTH, CALL)
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["service"], told["instance"]) == ("call", "auth", "a" * 16)
    assert "number" not in told


def test_ack_line_names_group_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has the event, and the group that acknowledged it or made it a dead letter."""
    for status, words in (("acked", "acked by shop-g"), ("dead", "a dead letter of shop-g")):
        ack = GroupAck(message=SEEN, group="shop-g", status=status, at=1.0)
        show_ack(bus(), ack)
        show_ack(bus(as_json=True), ack)
        line, told = capsys.readouterr().out.splitlines()
        assert f"auth.seen j-7 {words}" in line
        assert (json.loads(told)["type"], json.loads(told)["status"]) == ("ack", status)
