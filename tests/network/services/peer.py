"""A worker of the API that the environment names (`API`). With `RECORD` it notes each call's token in that file."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import lightbus
from lightbus import Api, Event

bus = lightbus.create(service_name="peer")


class PeerApi(Api):
    class Meta:
        name = os.environ.get("API", "work")

    happened = Event(["what"])

    async def who(self) -> int:
        """Return this process's id."""
        return os.getpid()

    def who_def(self) -> int:
        """Do the same in a thread."""
        return os.getpid()

    async def hold(self, seconds: float) -> int:
        """Take a while."""
        await asyncio.sleep(seconds)
        return os.getpid()

    async def hold_until(self, file: str) -> int:
        """Wait until a file exists."""
        while not Path(file).exists():
            await asyncio.sleep(0.01)
        return os.getpid()

    async def block_until(self, file: str) -> int:
        """Block this process's event loop until a file exists; another file shows that it is blocked."""
        Path(f"{file}.begun").touch()
        while not Path(file).exists():
            time.sleep(0.01)
        return os.getpid()

    def hold_def(self, seconds: float) -> int:
        """Take a while in a thread."""
        time.sleep(seconds)
        return os.getpid()

    async def take(self, token: str) -> str:
        """Record a token and return it. One short write is one line, even with other writers."""
        _note(token)
        return token

    def take_def(self, token: str) -> str:
        """Do the same in a thread."""
        _note(token)
        return token


def _note(token: str) -> None:
    with Path(os.environ["RECORD"]).open("ab", buffering=0) as record:
        record.write(f"{token}\n".encode())


bus.client.register_api(PeerApi())
