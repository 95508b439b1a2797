"""Firing: the returned message, the checks, and the waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import date
from typing import Any

import pytest

import lightbus
from helpers import Door
from helpers.clients import asked
from helpers.doors import SyncDoor
from lightbus import Api, BusPath, Event, EventMessage, InvalidParameters, LightbusTimeout, Parameter


def test_event_message_of_fire(served: BusPath, caller: BusPath, door: Door) -> None:
    """Firing returns the message with defaults filled in, handed off or not."""
    message = door.fire(served.auth.user_registered, username="sally")
    assert isinstance(message, EventMessage)
    assert message.kwargs == {"username": "sally", "age": 18}
    assert message.publisher == served.client.engine.identity.instance
    [kept] = asked(door)(served.auth.user_registered, "history")
    assert message.native_id == kept.native_id != ""
    assert abs(message.published_at - time.time()) < 10
    handed_off = door.fire(caller.auth.user_registered, username="sally")
    assert handed_off.publisher == message.publisher
    assert handed_off.id != message.id


class DatedApi(Api):
    booked = Event([Parameter("on", date), Parameter("note", str, default=None)])

    class Meta:
        name = "dated"

    def book(self, on: date) -> None: ...


def test_a_text_that_is_no_date_is_refused_where_it_is_sent(served: BusPath, caller: BusPath, door: Door) -> None:
    """By the publisher, in a hand-off and in a call. A date as text is accepted, as is a default of None."""
    served.client.register_api(DatedApi())
    caller.client.wait_for_apis("dated")
    for bus in (served, caller):
        with pytest.raises(lightbus.ValidationError, match="on is 'yesterday'"):
            door.fire(bus.dated.booked, on="yesterday")
        with pytest.raises(lightbus.ValidationError, match="on is 'yesterday'"):
            door.call(bus.dated.book, on="yesterday")
        assert door.fire(bus.dated.booked, on="2026-01-31", note=None).native_id
        door.call(bus.dated.book, on="2026-01-31")


def test_hooks_of_an_event_that_nobody_publishes_are_the_callers(caller: BusPath, door: Door) -> None:
    """They run on the caller's loop, or in its thread, and in its context, as around any event."""
    caller.client.engine.outbox.note_seen("mail", "sent")
    told: list[Any] = []
    where: ContextVar[str] = ContextVar("where", default="nowhere")

    async def before_async(event_message: EventMessage) -> None:
        told.append(asyncio.get_running_loop())
        where.set("before")

    def before(event_message: EventMessage) -> None:
        told.append(threading.current_thread())
        where.set("before")

    @caller.client.around_event_sent
    @contextlib.contextmanager
    def around(event_message: EventMessage) -> Iterator[None]:
        told.append(threading.current_thread())
        yield
        told.append(where.get())

    @caller.client.after_event_sent
    def after(event_message: EventMessage) -> None:
        told.append(event_message.kwargs)

    async def fire() -> None:
        caller.client.before_event_sent(before_async)
        await caller.mail.sent.fire_async(number=1)
        assert told[:2] == [threading.current_thread(), asyncio.get_running_loop()]

    if isinstance(door, SyncDoor):
        caller.client.before_event_sent(before)
        caller.mail.sent.fire(number=1)
        assert told[:2] == [threading.current_thread()] * 2
    else:
        asyncio.run(fire())
    assert told[2:] == [{"number": 1}, "before"]
    assert [each.event for each in caller.client.engine.outbox.waiting()] == ["sent"]


def test_waiting_for_the_groups(served: BusPath, caller: BusPath, door: Door) -> None:
    """With `wait_for` "ack" firing returns when the listeners have handled it, and is late when they do not."""
    gate = threading.Event()
    served.auth.user_registered.listen(lambda username: gate.wait(60), listener_name="slow")
    caller.client.wait_for_apis("auth", timeout=60)
    for bus in (served, caller):
        with pytest.raises(LightbusTimeout, match=r"user_registered .*within 0\.\d+ s.* Raise `event_fire_timeout` \("):
            door.fire(bus.auth.user_registered, username="sally", bus_options={"wait_for": "ack", "timeout": 0.2})
    gate.set()
    door.fire(caller.auth.user_registered, username="sally", bus_options={"wait_for": "ack"})
    with pytest.raises(InvalidParameters, match=r"wait_for is 'disk'\. There are: journal, ack"):
        door.fire(caller.auth.user_registered, username="sally", bus_options={"wait_for": "disk"})
