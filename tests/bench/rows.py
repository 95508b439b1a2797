"""The rows of the table: what each measures, which raw figure it is held against, and its two targets. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["ROWS", "SIDE_BY_SIDE", "TOLERANCE", "Figure", "Row", "Verdict", "chosen", "verdict"]

TOLERANCE = 0.25
"""A figure within this part of its target meets it: smaller differences mean nothing on a shared machine."""


class Verdict(Enum):
    """How far a row has come."""

    GOAL = "goal"
    FIRST_STEP = "first step"
    NO = "no"
    UNRATED = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number out of a measurement: the measurement's name, and the number's name in its result."""

    measurement: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One line of the table.

    `first_step` and `goal` bound the ratio of ours to raw, or, where `absolute`, our figure itself in `unit`;
    `lower` says that less is better.
    """

    name: str
    title: str
    unit: str
    ours: Figure
    raw: Figure
    lower: bool
    first_step: float | None = None
    goal: float | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if (self.first_step is None) != (self.goal is None):
            raise ValueError(f"row {self.name} has one target of two")


def verdict(row: Row, value: float, raw: float) -> Verdict:
    """Return which of the row's targets our `value` meets, given the raw figure of the same run."""
    if row.first_step is None or row.goal is None:
        return Verdict.UNRATED
    rated = value if row.absolute else value / raw
    if _meets(rated, row.goal, row.lower):
        return Verdict.GOAL
    return Verdict.FIRST_STEP if _meets(rated, row.first_step, row.lower) else Verdict.NO


def _meets(rated: float, target: float, lower: bool) -> bool:
    return rated <= target * (1 + TOLERANCE) if lower else rated >= target * (1 - TOLERANCE)


def chosen(names: str | None) -> list[Row]:
    """Return the rows named, comma-separated, in the table's order; all if None. ValueError for an unknown name."""
    if names is None:
        return list(ROWS)
    wanted = names.split(",")
    if unknown := set(wanted) - {row.name for row in ROWS}:
        raise ValueError(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if row.name in wanted]


def _latency(
    name: str, title: str, measurement: str, figure: str, first_step: float | None = None, goal: float | None = None
) -> Row:
    """Return a row in microseconds, held against the same percentile of a raw blocking round trip."""
    ours, raw = Figure(measurement=measurement, name=figure), Figure(measurement="call", name=figure)
    return Row(name=name, title=title, unit="us", ours=ours, raw=raw, lower=True, first_step=first_step, goal=goal)


def _rate(name: str, title: str, unit: str, raw: str, first_step: float, goal: float) -> Row:
    """Return a row of something per second, held against the raw measurement `raw`."""
    ours, against = Figure(measurement=name, name="per_s"), Figure(measurement=raw, name="per_s")
    return Row(name=name, title=title, unit=unit, ours=ours, raw=against, lower=False, first_step=first_step, goal=goal)


def _bounded(name: str, title: str, unit: str, measurement: str, first_step: float, goal: float) -> Row:
    """Return a row whose targets are figures and not ratios."""
    both = Figure(measurement=measurement, name=unit if measurement == "cold" else name)
    return Row(
        name=name, title=title, unit=unit, ours=both, raw=both,
        lower=True, first_step=first_step, goal=goal, absolute=True,
    )  # fmt: skip


def _unrated(name: str, title: str, unit: str, measurement: str, figure: str, *, lower: bool) -> Row:
    """Return a row without targets."""
    both = Figure(measurement=measurement, name=figure)
    return Row(name=name, title=title, unit=unit, ours=both, raw=both, lower=lower)


def _itself(name: str, title: str, measurement: str, first_step: float, goal: float) -> Row:
    """Return a row of how many times as long calls take as without what is measured: the bus against itself."""
    both = Figure(measurement=measurement, name="ratio")
    return Row(
        name=name, title=title, unit="x", ours=both, raw=both,
        lower=True, first_step=first_step, goal=goal, absolute=True,
    )  # fmt: skip


def _recovery(name: str, title: str, measurement: str, first_step: float, goal: float) -> Row:
    """Return a row of the milliseconds until calls take again what they took before an overload."""
    both = Figure(measurement=measurement, name="recovery")
    return Row(
        name=name, title=title, unit="ms", ours=both, raw=both,
        lower=True, first_step=first_step, goal=goal, absolute=True,
    )  # fmt: skip


SIDE_BY_SIDE = ("sync_async", "async_one", "in_flight", "events_1", "echo", "cold", "handshakes", "connection")
"""The rows that are also measured in the other modes of security."""

ROWS: tuple[Row, ...] = (
    _latency("sync_async", "sync call p50, async def handler", "sync_async", "p50", 1.25, 1.1),
    _latency("sync_async_p99", "sync call p99, async def handler", "sync_async", "p99"),
    _latency("sync_def", "sync call p50, def handler", "sync_def", "p50", 1.6, 1.3),
    _latency("sync_def_p99", "sync call p99, def handler", "sync_def", "p99"),
    _latency("async_one", "async call p50, one after another", "async_one", "p50", 1.6, 1.3),
    _rate("in_flight", "async calls, 100 in flight", "calls/s", "in_flight", 1.1, 1.4),
    _rate("threads", "sync calls from 16 threads", "calls/s", "in_flight", 0.3, 0.5),
    _rate("events_1", "live events 1->1, best effort", "events/s", "events_1", 1.1, 2.0),
    _rate("events_8", "live events 1->8, best effort", "deliveries/s", "events_8", 1.0, 1.5),
    _latency("fire_handler", "sync fire() p50, from a handler thread", "fire_handler", "p50", 0.4, 0.3),
    _latency("fire_script", "sync fire() p50, hand-off from a script", "fire_script", "p50", 1.7, 1.3),
    _rate("kept_1", "events 1->1, at least once, 100 in flight", "events/s", "events_1", 0.8, 1.05),
    _rate("kept_each", "events 1->1, at least once, each awaited", "events/s", "events_1", 0.22, 0.3),
    _rate("fire_many", "events 1->1, at least once, 1,000 fired together", "events/s", "events_1", 1.0, 2.0),
    _rate("kept_8", "events 1->8, at least once", "deliveries/s", "events_8", 0.8, 1.05),
    _rate("kept_group", "events to a group of 3, at least once", "events/s", "events_1", 0.5, 1.0),
    _rate("catch_up", "catch-up from a journal", "events/s", "events_1", 1.0, 1.2),
    _latency("fire_handler_kept", "sync fire() p50, kept, from a handler thread", "fire_handler_kept", "p50", 1.0, 0.4),
    _latency("fire_script_kept", "sync fire() p50, kept, by hand-off", "fire_script_kept", "p50", 1.8, 1.3),
    _rate("echo", "1 MiB echo", "MB/s", "echo", 1.0, 2.0),
    _rate("gateway", "HTTP calls by the gateway, on 10 connections", "calls/s", "gateway", 0.3, 0.5),
    _bounded("cold", "cold first call, with discovery", "ms", "cold", 500, 250),
    _bounded("rss_client", "resident memory, client", "MB", "rss", 50, 40),
    _bounded("rss_worker", "resident memory, worker", "MB", "rss", 55, 45),
    _itself("overload_async", "p99 of accepted calls at 5x load, computing async def", "overload_async", 5, 3),
    _itself("overload_def", "p99 of accepted calls at 5x load, computing def", "overload_def", 5, 3),
    _recovery("recovery_async", "from 5x load to calls as before, computing async def", "overload_async", 2000, 1000),
    _recovery("recovery_def", "from 5x load to calls as before, computing def", "overload_def", 2000, 1000),
    _itself("observing_off", "sync call with observing plugins installed, and off", "observing_off", 1.05, 1.0),
    _unrated("handshakes", "200 connections at once, until answered", "conn/s", "crowd", "per_s", lower=False),
    _unrated("connection", "worker's memory for each of 200 connections", "kB", "crowd", "kb_each", lower=True),
)
"""The targets are the project's own: the first step for plain Python, the goal beyond that."""
