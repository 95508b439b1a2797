"""A worker that listens to its own events, and fails on some; the environment says how, and with which policy."""

from __future__ import annotations

import os
from typing import Any

import lightbus
from lightbus import Api, Event, EventMessage, OnError, Parameter

bus = lightbus.create(service_name="fragile")
policy = OnError[os.environ["POLICY"]] if "POLICY" in os.environ else None
heard: list[list[Any]] = []
heard_by_another: list[int] = []
attempts: dict[int, int] = {}


class Odd(BaseException):
    """Not an Exception."""


class FragileApi(Api):
    dropped = Event([Parameter("number", int)])

    class Meta:
        name = "fragile"

    async def heard(self) -> list[Any]:
        return heard

    async def heard_by_another(self) -> list[int]:
        return sorted(heard_by_another)

    async def drop(self, number: Any) -> None:
        await bus.fragile.dropped.fire_async(number=number)


def handle(message: EventMessage, number: int) -> None:
    """Fail at negative numbers: -1 always, -2 twice, -3 and so on with what is no Exception."""
    attempts[number] = attempts.get(number, 0) + 1
    if number == -1 or (number == -2 and attempts[number] < 3):
        raise ValueError("dropped on the floor")
    if number == -3:
        raise SystemExit(3)
    if number == -4:
        raise Odd
    heard.append([number, message.deliveries, message.redelivered])


async def handle_async(message: EventMessage, number: int) -> None:
    handle(message, number)


bus.client.register_api(FragileApi())
bus.fragile.dropped.listen(
    handle_async if os.environ.get("ASYNC") else handle,
    listener_name="handler",
    on_error=policy,
    max_deliveries=int(os.environ.get("MAX_DELIVERIES", "5")),
)
bus.fragile.dropped.listen(lambda message, number: heard_by_another.append(number), listener_name="another")
