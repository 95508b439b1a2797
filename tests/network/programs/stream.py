"""A publisher of the API `stream`: its events are fired by handlers, by the clock, and handed off by others."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import lightbus
from lightbus import Api, Event, Parameter, WildcardParameter

bus = lightbus.create(service_name="stream")


class StreamApi(Api):
    ticked = Event([Parameter("number", int)])
    keyed = Event([Parameter("key", str), Parameter("number", int)], key="key")
    loose = Event(["number"], delivery="best_effort")
    painted = Event(
        [Parameter("what", str), Parameter("colour", str, default="red"), Parameter("coats", list, default=[])]
    )
    anything = Event(["value", WildcardParameter()])

    class Meta:
        name = "stream"
        version = 3

    def __init__(self) -> None:
        self._number = 0
        self._streaming: asyncio.Task[None] | None = None

    async def who(self) -> int:
        return os.getpid()

    async def fire_each(self, event: str, arguments: list[dict[str, Any]]) -> str:
        """Fire an event once for each dict of arguments, from an async handler; return the last one's id."""
        path = getattr(bus.stream, event)
        return [await path.fire_async(**each) for each in arguments][-1].id

    def fire_each_def(self, event: str, arguments: list[dict[str, Any]]) -> str:
        path = getattr(bus.stream, event)
        return [path.fire(**each) for each in arguments][-1].id

    async def start(self, rate: int) -> None:
        """Fire `ticked` this many times a second, numbered from 1, from now on."""
        self._streaming = asyncio.create_task(self._stream(rate))

    async def number(self) -> int:
        """Return the number of the event fired last."""
        return self._number

    async def _stream(self, rate: int) -> None:
        began = time.monotonic()
        while True:
            for _ in range(int((time.monotonic() - began) * rate) - self._number):
                self._number += 1
                await bus.stream.ticked.fire_async(number=self._number)
            await asyncio.sleep(0.002)


bus.client.register_api(StreamApi())
