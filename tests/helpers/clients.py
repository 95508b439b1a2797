"""An API to call and to listen to, for tests of the client; and a way to ask of the past through each door."""

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
    """Return what asks a path's question through a door."""

    def ask(path: BusPath, question: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(door, SyncDoor):
            return getattr(path, question)(*args, **kwargs)
        return asyncio.run(getattr(path, f"{question}_async")(*args, **kwargs))

    return ask
