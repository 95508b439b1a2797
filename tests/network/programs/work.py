"""A worker of the API that the environment names (`API`): it identifies itself, and holds, nests and records calls."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import lightbus
from lightbus import Api, BusPath, Event

NAME = os.environ.get("API", "work")
bus = lightbus.create(service_name=NAME)


class WorkApi(Api):
    class Meta:
        name = NAME

    happened = Event(["what"])

    def __init__(self) -> None:
        self._log: list[str] = []
        self._running = 0
        self._most = 0

    async def who(self) -> int:
        return os.getpid()

    def who_def(self) -> int:
        return os.getpid()

    async def log(self) -> list[str]:
        """Return what happened so far."""
        return self._log

    async def most(self) -> int:
        """Return the largest number of calls that were held at the same time."""
        return self._most

    async def echo(self, value: Any) -> Any:
        return value

    def echo_def(self, value: Any) -> Any:
        return value

    async def hold(self, seconds: float) -> int:
        self._enter()
        try:
            await asyncio.sleep(seconds)
            self._log.append("finished")
        except asyncio.CancelledError:
            self._log.append("cancelled")
            raise
        finally:
            self._running -= 1
        return os.getpid()

    def hold_def(self, seconds: float) -> int:
        self._enter()
        time.sleep(seconds)
        self._running -= 1
        self._log.append("finished")
        return os.getpid()

    def _enter(self) -> None:
        self._running += 1
        self._most = max(self._most, self._running)
        self._log.append("started")

    def patient(self, api: str) -> None:
        """Hold a call at another API with its own timeout, and record its outcome and time."""
        started = time.monotonic()
        try:
            _api(api).hold(seconds=3, bus_options={"timeout": 5})
        except lightbus.LightbusTimeout:
            self._log.append(f"timeout {time.monotonic() - started:.2f}")

    async def patient_async(self, api: str) -> None:
        started = time.monotonic()
        try:
            await _api(api).hold.call_async(seconds=3, bus_options={"timeout": 5})
        except (lightbus.LightbusTimeout, asyncio.CancelledError):  # whichever is first: the time of both is up
            self._log.append(f"timeout {time.monotonic() - started:.2f}")

    def along(self, way: list[str]) -> list[str]:
        """Call the same procedure of the next API in the list; return the names of all APIs."""
        return [NAME, *(_api(way[0]).along(way=way[1:]) if way else [])]

    async def along_async(self, way: list[str]) -> list[str]:
        return [NAME, *(await _api(way[0]).along_async.call_async(way=way[1:]) if way else [])]

    def around(self, api: str) -> None:
        """Call itself through another API, without end."""
        _api(api).around(api=NAME)

    async def around_async(self, api: str) -> None:
        await _api(api).around_async.call_async(api=NAME)

    async def leave_behind(self, seconds: float) -> None:
        """Return at once, and make a call later."""

        async def later() -> None:
            await asyncio.sleep(seconds)
            self._log.append(await _api(NAME).echo.call_async(value="later"))

        self._task = asyncio.create_task(later())


def _api(name: str) -> BusPath:
    path = bus
    for part in name.split("."):
        path = getattr(path, part)
    return path


bus.client.register_api(WorkApi())
