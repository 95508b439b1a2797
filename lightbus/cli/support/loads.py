"""The load of workers and the lag of groups, computed from their reports: for `lightbus top`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ...core.peers import Peer
from .output import Cell, Column, duration, number

__all__ = [
    "COLUMNS",
    "GROUP_COLUMNS",
    "GroupLag",
    "Load",
    "Reading",
    "lags",
    "loads",
    "marked",
    "ordered",
    "worker_table",
]

COLUMNS = (
    Column(title="SERVICE"),
    Column(title="PROCESS", optional=4),
    Column(title="HOST", optional=5),
    Column(title="CALLS/S", right=True),
    Column(title="P50", right=True, optional=3),
    Column(title="P99", right=True),
    Column(title="ERR/S", right=True),
    Column(title="RUN", right=True, optional=2),
    Column(title="QUEUE", right=True),
    Column(title="EV/S", right=True, optional=1),
    Column(title="LAG", right=True),
)

GROUP_COLUMNS = (
    Column(title="GROUP"),
    Column(title="API", optional=1),
    Column(title="MEMBERS", right=True),
    Column(title="PUBLISHERS", right=True, optional=2),
    Column(title="LAG", right=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The statistics of a worker, and when they were read (`at`, on a monotonic clock)."""

    peer: Peer
    at: float
    stats: dict[str, Any]

    def total(self, kind: str, *fields: str) -> int:
        """Return the sum of fields over all entries of a list in the statistics; of a mapping the values are summed."""
        values = (each.get(field, 0) for each in self.stats.get(kind, ()) for field in fields)
        return sum(sum(value.values()) if isinstance(value, dict) else value for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    The load of one worker: a row.

    Attributes:
        instance: distinguishes workers with the same service and process name.
        calls, errors, events: per second; events are those published and those handled.
        p50, p99: seconds, of the procedure with the slowest recent calls; None without calls.
        running, queued: calls at the moment.
        lag: events queued for the listeners here.

    """

    service: str
    process: str
    instance: str
    host: str
    calls: float
    errors: float
    events: float
    p50: float | None
    p99: float | None
    running: int
    queued: int
    lag: int

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {"type": "worker", **{name: getattr(self, name) for name in self.__slots__}}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the filter of `lightbus top` searches."""
        return self.service, self.process, self.instance, self.host

    def row(self, *, with_instance: bool = False) -> list[Cell]:
        """Return the cells of its row, in the order of `COLUMNS`; if asked, the process with the start of its id."""
        return [
            self.service,
            f"{self.process} {self.instance[:4]}…" if with_instance else self.process,
            self.host,
            number(round(self.calls, 1)),
            duration(self.p50) or "-",
            duration(self.p99) or "-",
            marked(number(round(self.errors, 1)), self.errors, "red"),
            number(self.running),
            marked(number(self.queued), self.queued, "yellow"),
            number(round(self.events, 1)),
            marked(number(self.lag), self.lag, "yellow"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLag:
    """
    The lag of a consumer group, as its publishers report it.

    Attributes:
        members: the number of its processes.
        publishers: the number of publishers that store events for it.
        lag: the number of events not handled yet, including those queued at its members.

    """

    api: str
    group: str
    members: int
    publishers: int
    lag: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the filter of `lightbus top` searches."""
        return self.group, self.api

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {"type": "group", **{name: getattr(self, name) for name in self.__slots__}}

    def row(self) -> list[Cell]:
        """Return the cells of its row, in the order of `GROUP_COLUMNS`."""
        style = "red" if self.lag and not self.members else "yellow" if self.lag else ""
        return [self.group, self.api, str(self.members), str(self.publishers), (number(self.lag), style)]


def lags(reports: Iterable[Iterable[dict[str, Any]]]) -> list[GroupLag]:
    """Return each group once, from the reports of its publishers, sorted by lag, largest first."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for groups in reports:
        for group in groups:
            found.setdefault((group["api"], group["name"]), []).append(group)
    listed = [
        GroupLag(
            api=api,
            group=name,
            members=len({member for group in groups for member in group["members"]}),
            publishers=len(groups),
            lag=sum(group["lag"] for group in groups),
        )
        for (api, name), groups in found.items()
    ]
    return sorted(listed, key=lambda each: (-each.lag, each.api, each.group))


def loads(before: dict[str, Reading], now: Iterable[Reading]) -> list[Load]:
    """Return a row for each worker, from two readings; for a new worker, from its start."""
    return [_load(before.get(reading.peer.instance), reading) for reading in now]


def _load(before: Reading | None, now: Reading) -> Load:
    announcement, stats = now.peer.announcement, now.stats
    seconds = now.at - before.at if before is not None else stats.get("uptime", 1.0)

    def rate(*what: tuple[str, str]) -> float:
        counted = sum(now.total(*each) - (before.total(*each) if before is not None else 0) for each in what)
        return max(0.0, counted / max(seconds, 1e-6))

    procedures: list[dict[str, Any]] = stats.get("procedures", [])
    slowest = max(procedures, key=lambda each: each["p99"] or 0.0, default={})
    return Load(
        service=announcement.service,
        process=announcement.process,
        instance=announcement.instance,
        host=announcement.host,
        calls=rate(("procedures", "calls")),
        errors=rate(("procedures", "errors"), ("listeners", "failed")),
        events=rate(("events", "published"), ("listeners", "handled")),
        p50=slowest.get("p50"),
        p99=slowest.get("p99"),
        running=stats.get("running", 0),
        queued=stats.get("queued", 0),
        lag=now.total("listeners", "waiting"),
    )


def marked(text: str, value: float, style: str) -> Cell:
    """Return a cell that is highlighted if its value is not 0."""
    return (text, style) if value else text


def worker_table(rows: Sequence[Load]) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns and cells of rows such that the rows differ at any width."""
    services = Counter(row.service for row in rows)
    processes = Counter((row.service, row.process) for row in rows)
    is_several = any(count > 1 for count in services.values())
    columns = [replace(each, optional=0) if is_several and each.title == "PROCESS" else each for each in COLUMNS]
    return columns, [row.row(with_instance=processes[row.service, row.process] > 1) for row in rows]


class Named(Protocol):
    """A row that has names."""

    @property
    def names(self) -> tuple[str, ...]: ...


R = TypeVar("R", bound=Named)


def ordered(rows: Iterable[R], sort: str) -> list[R]:
    """Return rows sorted by their names, or by the attribute `sort` in descending order."""
    if sort == "service":
        return sorted(rows, key=lambda row: row.names)
    return sorted(rows, key=lambda row: (-(getattr(row, sort, 0) or 0), row.names))
