"""A listener of `stream` in every form, and the API `heard` (or another name) to query the received events."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

import lightbus
from lightbus import Api, EventMessage, OnError

NAME = os.environ.get("API", "heard")
bus = lightbus.create(service_name=NAME)
heard: dict[str, list[Any]] = {}


@dataclass
class Paint:
    what: str
    colour: str


def note(listener: str, *what: Any) -> None:
    heard.setdefault(listener, []).append([*what])


class HeardApi(Api):
    class Meta:
        name = NAME

    async def by(self, listener: str) -> list[Any]:
        """Return the events of a listener so far."""
        return heard.get(listener, [])

    def listen_now(self, event: str, listener: str) -> None:
        """Add a listener to a running worker; return when it is live."""
        getattr(bus.stream, event).listen(lambda message: note(listener, message.id), listener_name=listener)


bus.client.register_api(HeardApi())


def with_message(event_message: EventMessage, number: int) -> None:
    note("with_message", event_message.canonical_name, number)


def arguments_only(number: int) -> None:
    note("arguments_only", number)


async def asynchronous(message: EventMessage, number: int) -> None:
    await asyncio.sleep(0)
    note("asynchronous", message.canonical_name, number)


def message_only(message: EventMessage) -> None:
    note("message_only", message.canonical_name, message.kwargs)


def nothing_at_all() -> None:
    note("nothing_at_all")


def some(event_message: EventMessage, what: str) -> None:
    note("some", what)


def everything(event_message: EventMessage, **kwargs: Any) -> None:
    note("everything", kwargs)


def only_kwargs(**kwargs: Any) -> None:
    note("only_kwargs", kwargs)


def positional(*args: Any, **kwargs: Any) -> None:
    note("positional", len(args), kwargs)


def keyword_only(event_message: EventMessage, *, what: str, colour: str = "blue") -> None:
    note("keyword_only", what, colour)


class Listener:
    def method(self, event_message: EventMessage, what: str) -> None:
        note("method", what)

    async def __call__(self, event_message: EventMessage, what: str) -> None:
        note("called", what)


def cast(event_message: EventMessage, value: Paint) -> None:
    note("cast", type(value).__name__, value.what)


def described(event_message: EventMessage, **kwargs: Any) -> None:
    message = event_message
    note(
        "described",
        message.id,
        message.native_id,
        message.api_name,
        message.event_name,
        message.procedure_name,
        message.version,
        message.deliveries,
        message.redelivered,
        abs(message.published_at - time.time()) < 30,
        message.publisher,
    )


def any_event(event_message: EventMessage, **kwargs: Any) -> None:
    note("any_event", event_message.event_name)


def changes(event_message: EventMessage, coats: list[str]) -> None:
    coats.append("changed")
    note("changes", coats)


async def changes_too(event_message: EventMessage, coats: list[str]) -> None:
    coats.append("changed too")
    note("changes_too", coats)


def in_order(event_message: EventMessage, key: str, number: int) -> None:
    note("in_order", key, number)


def loosely(event_message: EventMessage, number: int) -> None:
    note("loosely", number)


def calls_back(event_message: EventMessage, value: Any, **kwargs: Any) -> None:
    if kwargs.get("call"):
        note("calls_back", bus.stream.who())
        bus.stream.ticked.fire(number=value)


async def calls_back_async(event_message: EventMessage, value: Any, **kwargs: Any) -> None:
    if kwargs.get("call"):
        note("calls_back_async", await bus.stream.who.call_async())
        await bus.stream.ticked.fire_async(number=-value)


for function in (with_message, arguments_only, asynchronous):
    bus.stream.ticked.listen(function)
for function in (message_only, nothing_at_all, some, everything, only_kwargs, positional, keyword_only):
    bus.stream.painted.listen(function)
bus.stream.painted.listen(Listener().method, listener_name="method")
bus.stream.painted.listen(Listener(), listener_name="called")
bus.stream.painted.listen(described)
bus.stream.painted.listen(changes)
bus.stream.painted.listen(changes_too)
bus.stream.anything.listen(cast, on_error=OnError.ACKNOWLEDGE_AND_LOG)
bus.stream.anything.listen(calls_back)
bus.stream.anything.listen(calls_back_async)
bus.stream.keyed.listen(in_order)
bus.stream.loose.listen(loosely)
getattr(bus.stream, "*").listen(any_event)
