"""Following acknowledgements of a scripted peer: repeated, lost, forgotten or too many."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from helpers import wait_until_async
from helpers.scripted_bus import ScriptedBus
from lightbus.cli.support import acks
from lightbus.cli.support.acks import AckFollower, GroupAck
from lightbus.cli.support.connection import Connection
from lightbus.exceptions import LightbusTimeout
from lightbus.message import EventMessage


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(acks, "FIRST_PAUSE", 0.0)


def event(number: int) -> EventMessage:
    """Return a stored event; number 0 is a best-effort event."""
    return EventMessage(
        api_name="auth", event_name="seen", native_id=f"j-{number}" if number else "", publisher="0" * 16
    )


def acknowledged(bus: ScriptedBus, *messages: EventMessage) -> tuple[list[tuple[str, str, str]], bool]:
    """Ask about events until none is pending, or the answers are used up; return the acks, and whether it settled."""
    found: list[GroupAck] = []

    async def main() -> bool:
        follower = AckFollower(cast("Connection", bus), found.append)
        for message in messages:
            follower.add(message)
        count = len(bus.answers)
        settling = asyncio.get_running_loop().create_task(follower.settle(60.0))
        await wait_until_async(lambda: settling.done() or len(bus.questions) > count)
        settled = settling.done()
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await follower.end()
        return settled

    settled = asyncio.run(main())
    return [(ack.message.native_id, ack.group, ack.status) for ack in found], settled


def test_acknowledgements_are_reported_once() -> None:
    """Each group is reported once; an event is polled until all groups have handled it."""
    bus = ScriptedBus(
        {"j-1": {"shop": "waiting", "mail": "acked"}},
        LightbusTimeout("busy"),
        {"j-1": {"shop": "waiting", "mail": "acked"}},
        {"j-1": {"shop": "dead", "mail": "acked"}},
    )
    assert acknowledged(bus, event(1)) == ([("j-1", "mail", "acked"), ("j-1", "shop", "dead")], True)


def test_events_that_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Best-effort events, deleted events, and the oldest of too many are not followed."""
    assert acknowledged(ScriptedBus({}), event(0)) == ([], True)
    assert acknowledged(ScriptedBus({}), event(1)) == ([], True)
    monkeypatch.setattr(acks, "MAX_PENDING", 1)
    bus = ScriptedBus({"j-1": {"shop": "acked"}, "j-2": {"shop": "acked"}})
    assert acknowledged(bus, event(1), event(2)) == ([("j-2", "shop", "acked")], True)


def test_a_group_that_is_away() -> None:
    """An event that a group does not handle stays pending."""
    bus = ScriptedBus({"j-1": {"shop": "waiting"}})
    assert acknowledged(bus, event(1)) == ([], False)


def test_fields_of_an_acknowledgement() -> None:
    """The event, the group, and the state of the event there."""
    ack = GroupAck(message=event(1), group="shop", status="acked", at=7.0)
    assert ack.fields() == {
        "id": ack.message.id, "native_id": "j-1", "api": "auth", "event": "seen",
        "group": "shop", "status": "acked", "at": 7.0,
    }  # fmt: skip
