"""The two sides of the comparison, raw ZeroMQ and the bus: each starts its programs and returns their figures."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from helpers import Process

from .measure import megabytes_resident
from .programs import (
    Figures,
    MeasurementFailed,
    Programs,
    endpoint_of,
    first_reply,
    http_place,
    last_words,
    rate,
    result,
)

__all__ = ["Bus", "Raw", "Side"]

SERVICE = Path(__file__).parent / "service"

COLD = """
import lightbus
bus = lightbus.create(service_name="bench-cold")
assert bus.auth.check_password(user="admin", password="secret") is True
import time
print('{"replied_at": %r}' % time.monotonic())
"""
"""The shortest script that makes a call: what a user's first line costs, imports included."""


HELD_AGAINST_ITSELF = ("overload_async", "overload_def", "observing_off")
"""Measurements that have a ratio already."""

KEPT = {
    "kept_1": (1, 1, 100),
    "kept_8": (8, 1, 100),
    "kept_group": (1, 3, 100),
    "kept_each": (1, 1, 1),
    "fire_many": (1, 1, 0),
}
"""Per measurement of kept events: services that listen, processes of each, events under way (0: fired together)."""


GATEWAY = ("gateway", "--port", "0", "--allow", "call:auth.check_password", "--rate", "0", "--json")


class Side(Protocol):
    """One of the two that are compared."""

    def measure(self, measurement: str) -> Figures:
        """Return the figures of one round; raises MeasurementFailed."""
        ...


def by_http(programs: Programs, server: Process, count: int) -> Figures:
    """Measure calls a second over HTTP: at the gateway, or at a bare route with the same server."""
    try:
        return programs.run("http-client", "-m", "bench.http_client", *http_place(server), str(count))
    finally:
        server.ask_to_end()
        server.end()


class Raw:
    """The reference R: blocking DEALER/ROUTER and PUB/SUB with msgpack, over loopback TCP in every mode."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._server, self._endpoint = self._start_server()

    def measure(self, measurement: str) -> Figures:
        """Return the figures of one round."""
        count = self._programs.count(measurement)
        if measurement in HELD_AGAINST_ITSELF:
            return {"ratio": 1.0, "recovery": 1.0}  # the bus is held against itself without load
        if measurement.startswith("events_"):
            return self._events(int(measurement.removeprefix("events_")), count)
        if measurement == "cold":
            return first_reply(lambda: self._client("cold", self._endpoint, 1), count)
        if measurement == "rss":
            return self._memory(count)
        if measurement == "gateway":
            return by_http(self._programs, self._programs.start("raw-http", "-m", "bench.raw_http"), count)
        if measurement == "crowd":
            server, endpoint = self._start_server()
            figures = self._client("crowd", endpoint, count, str(server.pid))
            server.kill()
            return figures
        return self._client(measurement, self._endpoint, count)

    def _start_server(self) -> tuple[Process, str]:
        server = self._programs.start("raw-server", "-m", "bench.raw_server")
        return server, endpoint_of(server)

    def _client(self, measurement: str, endpoint: str, count: int, *more: str) -> Figures:
        return self._programs.run("raw-client", "-m", "bench.raw_client", measurement, endpoint, str(count), *more)

    def _memory(self, count: int) -> Figures:
        """Measure a fresh server: the other one has held large bodies."""
        server, endpoint = self._start_server()
        figures = {**self._client("rss", endpoint, count), "rss_worker": megabytes_resident(server.pid)}
        server.kill()
        return figures

    def _events(self, subscribers: int, count: int) -> Figures:
        def start(*args: str) -> Process:
            return self._programs.start(f"raw-{args[0]}", "-m", "bench.raw_events", *args, str(count))

        endpoint = endpoint_of(start("publish", str(subscribers)))
        started = [start("subscribe", endpoint) for _ in range(subscribers)]
        return rate([result(subscriber) for subscriber in started])


class Bus:
    """The bus. One worker serves all rounds; it is started at the first measurement, and not again if it fails."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._worker: Process | None = None
        self._failure: str = ""

    def measure(self, measurement: str) -> Figures:
        """Return the figures of one round."""
        self._start_once()
        count = self._programs.count(measurement)
        if measurement.startswith("events_"):
            return self._events(int(measurement.removeprefix("events_")), count)
        if measurement in KEPT:
            return self._kept(*KEPT[measurement], count)
        if measurement == "catch_up":
            return self._catch_up(count)
        if measurement == "cold":
            return first_reply(lambda: self._programs.run("cold", "-c", COLD), count)
        if measurement == "rss":
            return self._memory(count)
        if measurement == "gateway":
            return by_http(self._programs, self._programs.start("gateway", "-m", "lightbus", *GATEWAY), count)
        if measurement == "crowd" or measurement.startswith("overload_"):
            return self._with_fresh_worker(measurement, count)
        return self._client(measurement, count)

    def _start_once(self) -> None:
        if self._worker is None and not self._failure:
            try:
                self._worker = self._start_worker({})
            except MeasurementFailed as error:
                self._failure = str(error)
        if self._failure:
            raise MeasurementFailed(self._failure)

    def _start_worker(self, env: Mapping[str, str]) -> Process:
        """Start a worker and return when it has answered a call."""
        worker = self._programs.start("worker", "-m", "lightbus", "run", "--bus", "bus", cwd=SERVICE, env=env)
        try:
            self._client("hello", 1, env=env)
        except MeasurementFailed as error:
            if worker.running:
                raise
            raise MeasurementFailed(f"the worker ended: {last_words(worker)}") from error
        return worker

    def _client(self, measurement: str, count: int, *more: str, env: Mapping[str, str] | None = None) -> Figures:
        return self._programs.run("client", "-m", "bench.bus_client", measurement, str(count), *more, env=env)

    def _memory(self, count: int) -> Figures:
        with self._fresh_worker() as (worker, env):
            return {**self._client("rss", count, env=env), "rss_worker": megabytes_resident(worker.pid)}

    def _with_fresh_worker(self, measurement: str, count: int) -> Figures:
        with self._fresh_worker() as (_, env):
            return self._client(measurement, count, env=env)

    @contextmanager
    def _fresh_worker(self) -> Iterator[tuple[Process, dict[str, str]]]:
        """Return a worker on a separate bus, and that bus: the other one has served many calls and large bodies."""
        env = {"LIGHTBUS_BUS": f"bench-{secrets.token_hex(4)}"}
        worker = self._start_worker(env)
        try:
            yield worker, env
        finally:
            worker.ask_to_end()
            worker.end()

    def _events(self, subscribers: int, count: int) -> Figures:
        run = secrets.token_hex(4)
        started = [
            self._programs.start("subscriber", "-m", "bench.bus_subscriber", run, f"subscriber-{number}", str(count))
            for number in range(subscribers)
        ]
        try:
            self._client("events", count, run, str(subscribers))
            figures = rate([result(subscriber) for subscriber in started])
        finally:
            for subscriber in started:
                subscriber.kill()  # after a failure they would wait on, and disturb what is measured next
        return {**figures, "lost": subscribers * count - figures["received"]}

    def _kept(self, services: int, members: int, in_flight: int, count: int) -> Figures:
        run = secrets.token_hex(4)
        names = [f"{run}-{number}" for number in range(services) for _ in range(members)]
        with self._subscribers(run, names, count, "kept") as started:
            self._client("kept", count, run, str(len(names)), str(in_flight))
            figures = rate([result(subscriber) for subscriber in started])
        if figures["received"] < services * count:
            raise MeasurementFailed(f"{services * count - figures['received']:g} kept events did not arrive")
        return figures

    def _catch_up(self, count: int) -> Figures:
        run = secrets.token_hex(4)
        self._client("kept", count, run, "0", "100")
        with self._subscribers(run, [run], count, "catch_up") as [subscriber]:
            return rate([result(subscriber)])

    @contextmanager
    def _subscribers(self, run: str, services: list[str], count: int, kind: str) -> Iterator[list[Process]]:
        started = [
            self._programs.start("subscriber", "-m", "bench.bus_subscriber", run, service, str(count), kind)
            for service in services
        ]
        try:
            yield started
        finally:
            for subscriber in started:
                subscriber.kill()
