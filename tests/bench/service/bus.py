"""The worker's bus module, for `lightbus run` in this directory: the measured procedures, and helpers for events."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import lightbus
from bench.measure import EVENT, latencies, percentiles
from lightbus import Api, Event, Parameter

COUNTS = bool(os.environ.get("BENCH_METER"))
"""Whether steps are counted here, which takes so long that a worker would refuse calls."""

bus = lightbus.create({"worker": {"max_queue_time": 60}} if COUNTS else None, service_name="bench")

BREATH = 100
"""Events fired between two turns of the loop, as a busy handler would: the socket's own work needs turns too."""

TOGETHER = 1000
"""Events that are fired together, where that is measured."""

COMPUTED = 0.01
"""Seconds of processor time of a call that computes."""


class AuthApi(Api):
    class Meta:
        name = "auth"

    user_registered = Event(
        parameters=[Parameter("user", str), Parameter("email", str)],
        delivery="best_effort",
    )

    user_kept = Event(parameters=[Parameter("user", str), Parameter("email", str)])

    def __init__(self) -> None:
        self._subscribed: Counter[str] = Counter()

    def check_password_def(self, user: str, password: str) -> bool:
        return password == "secret"

    async def check_password(self, user: str, password: str) -> bool:
        return password == "secret"

    async def compute(self) -> None:
        _compute()

    def compute_def(self) -> None:
        _compute()

    async def echo(self, data: bytes) -> bytes:
        return data

    async def fire_many(self, user: str, count: int) -> int:
        """Fire `count` events from this worker, which advertises them."""
        for fired in range(count):
            await bus.auth.user_registered.fire_async(user=user, email=EVENT["email"])
            if fired % BREATH == 0:
                await asyncio.sleep(0)
        return count

    async def keep_many(self, user: str, count: int, in_flight: int) -> int:
        """Fire `count` stored events, a constant number in progress; with none in progress, a thousand together."""
        if not in_flight:
            event = {"user": user, "email": EVENT["email"]}
            for left in range(count, 0, -TOGETHER):
                await bus.auth.user_kept.fire_many_async([event] * min(TOGETHER, left))
            return count

        async def fire(number: int) -> None:
            for _ in range(number):
                await bus.auth.user_kept.fire_async(user=user, email=EVENT["email"])

        await asyncio.gather(*(fire(count // in_flight) for _ in range(in_flight)))
        return count

    def time_fires(self, count: int, event: str) -> dict[str, float]:
        """Fire from this handler's thread, one after another; return the percentiles in microseconds."""
        fire = getattr(bus.auth, event).fire
        return percentiles(latencies(lambda: fire(**EVENT), count))

    async def subscribed(self, run: str) -> None:
        """Record that one more subscriber of this run has seen a probe."""
        self._subscribed[run] += 1

    async def subscribers(self, run: str) -> int:
        """Return how many subscribers of this run have seen a probe."""
        return self._subscribed[run]


def _compute() -> None:
    """Use a fixed amount of processor time."""
    end = time.thread_time() + COMPUTED
    while time.thread_time() < end:
        continue


bus.client.register_api(AuthApi())

if COUNTS:  # else nothing of it is imported: the memory of this worker is measured
    from bench.step_service import StepsApi

    bus.client.register_api(StepsApi())
