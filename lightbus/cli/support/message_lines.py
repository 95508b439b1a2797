"""Events and calls as commands show them: a line of text, or a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...core.peers import Peer
from ...message import EventMessage
from ...phrases import clean
from .acks import GroupAck
from .connection import Connection
from .output import Cell, duration, json_line, size

__all__ = ["EVENT_FIELDS", "event_fields", "show_ack", "show_call", "show_event"]

EVENT_FIELDS = ("id", "native_id", "api", "event", "version", "published_at", "publisher", "kwargs")
"""The fields of an event, in the order in which they are shown."""


def event_fields(message: EventMessage) -> dict[str, Any]:
    """Return the fields of an event in the JSON output."""
    names = {"api": "api_name", "event": "event_name"}
    return {name: getattr(message, names.get(name, name)) for name in EVENT_FIELDS}


def show_event(bus: Connection, event: Mapping[str, Any]) -> None:
    """Show an event, given by its fields."""
    if bus.output.as_json:
        bus.output.record({"type": "event", **{name: event[name] for name in EVENT_FIELDS}})
        return
    publisher = bus.client.engine.snapshot.peers.get(event["publisher"])
    service = "" if publisher is None else f"{publisher.announcement.service} "
    bus.output.line(
        _time(event["published_at"]), (f"{event['api']}.{event['event']}", "bold"), f"  {json_line(event['kwargs'])}",
        (f"  {service}{event['publisher'][:4]}", "dim"),
    )  # fmt: skip


def show_call(bus: Connection, peer: Peer, call: dict[str, Any]) -> None:
    """Show a call, and the worker that answered it."""
    who = peer.announcement
    if bus.output.as_json:
        fields = {name: value for name, value in call.items() if name != "number"}
        served_by = {"service": who.service, "process": who.process, "instance": who.instance}
        bus.output.record({"type": "call", **fields, **served_by})
        return
    name = f"{call['api']}.{call['procedure']}"
    took = f"  {duration(call['seconds'])}  {call['caller_service']} {call['caller'][:4]} at {who.service} "
    bus.output.line(
        _time(call["at"]), (name, "bold cyan"), f"({_arguments(call)})", *_answer(call),
        (f"{took}{who.instance[:4]}", "dim"),
    )  # fmt: skip


def _arguments(call: dict[str, Any]) -> str:
    if "kwargs" in call["cut"]:
        return size(call["kwargs_bytes"])
    return ", ".join(f"{clean(name)}={json_line(value)}" for name, value in call["kwargs"].items())


def _answer(call: dict[str, Any]) -> list[Cell]:
    if call["error"] is not None:
        own = call["message"].removeprefix(f"{call['api']}.{call['procedure']} ")  # "... raised ValueError: no"
        return [(f" {own}" if own.startswith("raised ") else f" failed: {own}", "red")]
    return [" = ", size(call["result_bytes"]) if "result" in call["cut"] else json_line(call["result"])]


def show_ack(bus: Connection, ack: GroupAck) -> None:
    """Show an acknowledgement."""
    if bus.output.as_json:
        bus.output.record({"type": "ack", **ack.fields()})
        return
    verb, style = ("a dead letter of", "red") if ack.status == "dead" else ("acked by", "green")
    name = f"{ack.message.canonical_name} {ack.message.native_id}"
    bus.output.line(_time(ack.at), (f"{name} ", "dim"), (f"{verb} {ack.group}", style))


def _time(at: float) -> Cell:
    """Return a time of day, with the date if it is not today: a stored event, or a wrong clock."""
    then = datetime.fromtimestamp(at)
    date = "" if then.date() == datetime.now().date() else f"{then:%Y-%m-%d} "
    return f"{date}{then:%H:%M:%S.%f}"[:-3] + "  ", "dim"
