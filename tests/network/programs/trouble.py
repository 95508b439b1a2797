"""A worker whose procedures fail in every way a handler can, as `def` and as `async def`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create(service_name="trouble")


class Odd(BaseException):
    """Not an Exception: most `except` clauses do not see it."""


class Overdrawn(Exception):
    """Carries something that cannot be sent."""


class NoWords(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")


class NoRepr:
    def __repr__(self) -> str:
        raise ValueError("no repr")


def exception(kind: str) -> BaseException:
    made: dict[str, BaseException] = {
        "value": ValueError("no account", 7),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "odd": Odd("odd"),
        "cancelled": asyncio.CancelledError(),
        "unserialisable": Overdrawn("overdrawn", object(), 7, NoRepr()),
        "no_words": NoWords(),
        "bad_text": FileNotFoundError(2, "No such file or directory", "caf\udce9"),
        "long": ValueError("x" * 1_000_000, "y" * 1_000_000),
        "own": lightbus.InvalidParameters("the handler's own call had wrong arguments"),
    }
    return made[kind]


class TroubleApi(Api):
    class Meta:
        name = "trouble"

    happened = Event([Parameter("text", str)])
    anything = Event(["value"])

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def raises(self, kind: str) -> None:
        raise exception(kind)

    async def raises_async(self, kind: str) -> None:
        raise exception(kind)

    def sleeps(self, seconds: float) -> None:
        time.sleep(seconds)

    async def sleeps_async(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def gives_object(self) -> Any:
        return {"items": [1, object()]}

    async def gives_wrong(self) -> int:
        return "seven"  # type: ignore[return-value]

    def size(self, data: Any) -> int:
        return len(data)

    async def large(self, size: int) -> bytes:
        return b"x" * size

    async def large_event(self, size: int) -> None:
        await bus.trouble.anything.fire_async(value=b"x" * size)


bus.client.register_api(TroubleApi())
