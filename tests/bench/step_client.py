"""The other side of the worker whose steps are counted: a caller, or a listener. `step_client PATH SIZE ROUNDS`."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from .measure import CALL, EVENT, IN_FLIGHT
from .meter import Counts, meter

METER = meter()  # before any thread is started

import lightbus  # noqa: E402

PATIENCE = 60.0
LONG = {"timeout": 120}

Once = Callable[[int], None]
"""Does something so many times."""

bus: Any = lightbus.create(service_name="bench-steps")


def sync_async(count: int) -> None:
    """Call an `async def` handler."""
    for _ in range(count):
        bus.auth.check_password(**CALL)


def sync_def(count: int) -> None:
    """Call a `def` handler."""
    for _ in range(count):
        bus.auth.check_password_def(**CALL)


def fire_handler_kept(count: int) -> None:
    """Have a handler thread fire."""
    bus.auth.time_fires.call(count=count, event="user_kept", bus_options=LONG)


def fire_script_kept(count: int) -> None:
    """Hand events off."""
    for _ in range(count):
        bus.auth.user_kept.fire(**EVENT)


def on_loop(in_flight: int) -> Once:
    """Return a function that calls an `async def` handler from a loop, with this many calls in progress."""
    runner = asyncio.Runner()

    async def calls(count: int) -> None:
        for _ in range(count):
            await bus.auth.check_password.call_async(**CALL)

    async def all_calls(count: int) -> None:
        await asyncio.gather(*(calls(count // in_flight) for _ in range(in_flight)))

    return lambda count: runner.run(all_calls(count))


class Received:
    """The received events; the listener's loop adds, the main thread waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    async def on_event(self, event_message: Any, user: str, email: str) -> None:
        """Count one."""
        with self._changed:
            self.count += 1
            self._changed.notify()

    def wait(self, count: int, seconds: float = PATIENCE) -> bool:
        """Return once there are this many; False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, seconds)


def listening(event: str, fire: Once) -> Once:
    """Return a function that makes the worker fire events, and returns once all have arrived at a listener here."""
    received = Received()
    getattr(bus.auth, event).listen(received.on_event, listener_name="steps")
    bus.client.start_in_background()
    while not received.wait(1, 0.1):  # the listener is there
        fire(1)

    def once(count: int) -> None:
        before = received.count
        fire(count)
        if not received.wait(before + count):
            raise TimeoutError(f"{received.count - before} of {count} events have come")

    return once


def live() -> Once:
    """Listen to events of best effort."""
    return listening(
        "user_registered", lambda count: bus.auth.fire_many.call(user="sally", count=count, bus_options=LONG)
    )


def kept(in_flight: int) -> Once:
    """Listen to stored events, of which this many are fired at a time."""

    def fire(count: int) -> None:
        # Not fewer than are to be under way: what is fired is a multiple of that.
        bus.auth.keep_many.call(user="sally", count=count, in_flight=min(in_flight, count), bus_options=LONG)

    return listening("user_kept", fire)


PATHS: dict[str, Callable[[], Once]] = {
    "sync_async": lambda: sync_async,
    "sync_def": lambda: sync_def,
    "async_one": lambda: on_loop(1),
    "in_flight": lambda: on_loop(IN_FLIGHT),
    "fire_script_kept": lambda: fire_script_kept,
    "fire_handler_kept": lambda: fire_handler_kept,
    "events_1": live,
    "kept_1": lambda: kept(IN_FLIGHT),
    "kept_each": lambda: kept(1),
}


def window(once: Once, count: int) -> dict[str, Counts]:
    """Return the counts of both sides for this many repetitions."""
    bus.steps.begin.call(bus_options=LONG)
    METER.start()
    once(count)
    mine = METER.stop()
    return {"client": mine, "worker": bus.steps.end.call(bus_options=LONG)}


def measure(once: Once, size: int, rounds: int) -> dict[str, Counts]:
    """Return the steps of one repetition, by side: the least of long windows, minus that of short ones."""
    once(size)
    short, long = ([window(once, count) for _ in range(rounds)] for count in (size, 3 * size))
    return {
        side: {
            name: max(0.0, _least(long, side, name) - _least(short, side, name)) / (2 * size) for name in long[0][side]
        }
        for side in ("client", "worker")
    }  # fmt: skip


def _least(windows: list[dict[str, Counts]], side: str, name: str) -> float:
    return min(each[side].get(name, 0.0) for each in windows)


if __name__ == "__main__":
    path, size, rounds = sys.argv[1:]
    bus.client.wait_for_apis("auth", "steps", timeout=PATIENCE)
    sys.stdout.write(json.dumps(measure(PATHS[path](), int(size), int(rounds))) + "\n")
    sys.stdout.flush()
    bus.client.close()
