"""A caller on a host of a network. It prints what each call came to, with the time, until it is ended.

First `first SECONDS HOST`: how long the first call took, from the making of the bus on. Then `TIME DOOR OUTCOME` for
each call of `work.where`, one after the other at each door; the outcome is a host's name, or an error's. With `HOLD`,
so many calls of `work.hold` are on their way at each door meanwhile, from when two hosts have answered on:
`TIME held TOKEN ERROR` when one of them fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import lightbus
from lightbus import LightbusException

PAUSE = 0.02
TIMEOUT = {"timeout": float(os.environ.get("TIMEOUT", "20"))}
HOLD = int(os.environ.get("HOLD", "0"))
NOTE = os.environ.get("NOTE", "")

began = time.time()
bus = lightbus.create(service_name="caller")


def say(*words: object) -> None:
    line = " ".join(map(str, (f"{time.time():.3f}", *words)))
    print(f"{line}\n", end="", flush=True)  # in one piece: others print beside us


def outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except LightbusException as error:
        return type(error).__name__


def call_blocking() -> None:
    while True:
        say("sync", outcome(lambda: bus.work.where(note=NOTE, bus_options=TIMEOUT)))
        time.sleep(PAUSE)


def hold_blocking(token: int) -> None:
    say("held", token, outcome(lambda: bus.work.hold(token=token, bus_options={"timeout": 600})))


async def call_async() -> None:
    while True:
        try:
            host = await bus.work.where.call_async(note=NOTE, bus_options=TIMEOUT)
        except LightbusException as error:
            host = type(error).__name__
        say("async", host)
        await asyncio.sleep(PAUSE)


async def hold_async(token: int) -> None:
    try:
        await bus.work.hold.call_async(token=token, bus_options={"timeout": 600})
    except LightbusException as error:
        say("held", token, type(error).__name__)


async def main() -> None:
    holding = [asyncio.create_task(hold_async(HOLD + number)) for number in range(HOLD)]
    await call_async()
    await asyncio.gather(*holding)


signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # in order: the worker need not wait for us
try:
    first = bus.work.where(note=NOTE, bus_options=TIMEOUT)
except LightbusException as error:
    first = f"{type(error).__name__}: {error}"
print(f"first {time.time() - began:.3f} {first}", flush=True)
if "ONCE" not in os.environ:
    answered: set[str] = set()
    while (
        HOLD and not {"h1", "h2"} <= answered
    ):  # else one alone would be given them all, and for their sake nothing more
        answered.add(outcome(lambda: bus.work.where(bus_options=TIMEOUT)))
    for number in range(HOLD):
        threading.Thread(target=hold_blocking, args=[number], daemon=True).start()
    threading.Thread(target=call_blocking, daemon=True).start()
    asyncio.run(main())
bus.client.close()
