"""How the measured programs are started and their result lines read. A result is a dict of figures by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from helpers import Process, Processes

__all__ = [
    "Figures",
    "MeasurementFailed",
    "Programs",
    "endpoint_of",
    "first_reply",
    "http_place",
    "last_words",
    "rate",
    "result",
]

Figures = dict[str, float]

TESTS = Path(__file__).resolve().parents[1]
"""A directory without a package `lightbus`: Python looks for modules where it is started first."""

LIMIT = 300.0
"""Seconds for one program; one that takes longer hangs."""

COUNTS = {
    "hello": 1, "call": 3000, "sync_async": 3000, "sync_def": 3000, "async_one": 3000, "in_flight": 30_000,
    "threads": 8000, "events_1": 50_000, "events_8": 20_000, "fire_handler": 2000, "fire_script": 2000,
    "kept_1": 50_000, "kept_8": 40_000, "kept_group": 50_000, "kept_each": 10_000, "catch_up": 100_000,
    "fire_many": 100_000, "fire_handler_kept": 2000, "fire_script_kept": 2000, "echo": 200, "cold": 5,
    "rss": 1000, "crowd": 200, "overload_async": 1000, "overload_def": 1000, "observing_off": 3000,
    "gateway": 3000,
}  # fmt: skip
"""How often each measurement does its thing in a round; about a second each."""

LEAST = {
    "in_flight": 1000, "threads": 160, "events_1": 1000, "events_8": 1000, "kept_1": 1000, "kept_8": 1000,
    "kept_group": 3000, "kept_each": 500, "fire_many": 3000, "catch_up": 3000, "call": 100, "rss": 200, "crowd": 200,
    "overload_async": 200, "overload_def": 200, "observing_off": 500,
    "gateway": 200,
}  # fmt: skip
"""Below these a shortened round would measure its own beginning."""


class MeasurementFailed(Exception):
    """A program ended without a result."""


class Programs:
    """Starts programs in the environment `env`; `divisor` shortens each measurement."""

    def __init__(self, processes: Processes, env: Mapping[str, str], divisor: int) -> None:
        self._processes = processes
        self._env = env
        self._divisor = divisor

    def count(self, measurement: str) -> int:
        """Return the number of repetitions."""
        return max(LEAST.get(measurement, 1), COUNTS[measurement] // self._divisor)

    def start(self, name: str, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Process:
        """Start `python ARGS`, with `env` on top of the environment; where no other package is in front of its own."""
        return self._processes.python(*args, cwd=cwd or TESTS, env={**self._env, **(env or {})}, name=name)

    def run(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> Figures:
        """Run `python ARGS` to its end and return its result."""
        return result(self.start(name, *args, env=env))


def result(process: Process) -> Figures:
    """Wait for the program's end and return its last line, read; MeasurementFailed if there is none."""
    try:
        code = process.wait(LIMIT)
    except AssertionError as error:
        process.kill()
        raise MeasurementFailed(f"{process.name} took over {LIMIT:g} s") from error
    lines = process.stdout.splitlines()
    if code or not lines:
        raise MeasurementFailed(f"{process.name} ended with {code}: {last_words(process)}")
    figures: Figures = json.loads(lines[-1])
    return figures


def last_words(process: Process) -> str:
    """Return the last line of a program's errors: the exception of a traceback."""
    return next(reversed(process.stderr.strip().splitlines()), "it wrote nothing")


def endpoint_of(server: Process) -> str:
    """Return the endpoint in the first line of a raw server."""
    return str(json.loads(server.wait_for_line(r"^{.*}$")[0])["endpoint"])


def http_place(server: Process) -> tuple[str, str]:
    """Return the URL in the first line of a web server, and its token; or raise MeasurementFailed."""
    try:
        told = json.loads(server.wait_for_line(r"^{.*}$")[0])
    except AssertionError as error:
        raise MeasurementFailed(f"{server.name} ended: {last_words(server)}") from error
    return str(told["url"]), str(told["token"])


def rate(arrivals: list[Figures]) -> Figures:
    """Return the deliveries per second over all subscribers, from the first arrival anywhere to the last."""
    span = max(one["last"] for one in arrivals) - min(one["first"] for one in arrivals)
    received = sum(one["received"] for one in arrivals)
    return {"per_s": received / span, "received": received}


def first_reply(run: Callable[[], Figures], count: int) -> Figures:
    """
    Return the median of milliseconds from starting a program to its first reply.

    The program tells the moment of the reply on the monotonic clock, which all processes share; its end is not
    measured. The first of all runs only warms the file cache.
    """
    run()
    taken = []
    for _ in range(count):
        began = time.monotonic()
        taken.append((run()["replied_at"] - began) * 1000)
    return {"ms": sorted(taken)[count // 2]}
