"""An API to call and to listen to, for tests of the client; and queries of the past, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from helpers import Door
from helpers.doors import SyncDoor
from lightbus import Api, BusPath, Event, Parameter

__all__ = ["AuthApi", "asked"]


class AuthApi(Api):
    user_registered = Event([Parameter("username", str), Parameter("age", int, default=18)])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        return password == "secret"

    async def fail(self, why: str) -> None:
        raise ValueError(why)


def asked(door: Door) -> Callable[..., Any]:
    """Return a function that calls a path's query, sync or async."""

    def ask(path: BusPath, question: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(door, SyncDoor):
            return getattr(path, question)(*args, **kwargs)
        return asyncio.run(getattr(path, f"{question}_async")(*args, **kwargs))

    return ask
