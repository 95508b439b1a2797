"""The load of each procedure over all workers, computed from their reports: for `lightbus top`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .loads import Reading, marked
from .output import Cell, Column, duration, number

__all__ = ["PROCEDURE_COLUMNS", "ProcedureLoad", "procedure_loads"]

PROCEDURE_COLUMNS = (
    Column(title="PROCEDURE"),
    Column(title="WORKERS", right=True, optional=1),
    Column(title="CALLS/S", right=True),
    Column(title="P50", right=True, optional=2),
    Column(title="P99", right=True),
    Column(title="ERR/S", right=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureLoad:
    """
    The load of one procedure: a row.

    Attributes:
        workers: the number of workers that have executed it.
        calls, errors: per second, over all workers.
        p50, p99: seconds, of the worker with the slowest recent calls; None without calls.

    """

    api: str
    procedure: str
    workers: int
    calls: float
    errors: float
    p50: float | None
    p99: float | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the filter of `lightbus top` searches."""
        return (f"{self.api}.{self.procedure}",)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {"type": "procedure", **{name: getattr(self, name) for name in self.__slots__}}

    def row(self) -> list[Cell]:
        """Return the cells of its row, in the order of `PROCEDURE_COLUMNS`."""
        times = duration(self.p50) or "-", duration(self.p99) or "-"
        errors = marked(number(round(self.errors, 1)), self.errors, "red")
        return [*self.names, str(self.workers), number(round(self.calls, 1)), *times, errors]


def procedure_loads(before: dict[str, Reading], now: Iterable[Reading]) -> list[ProcedureLoad]:
    """Return a row for each procedure that was ever called, from two readings of the workers' statistics."""
    found: dict[tuple[str, str], list[tuple[dict[str, Any], float, float]]] = {}
    for reading in now:
        earlier = before.get(reading.peer.instance)
        counted = {} if earlier is None else {_name(each): each for each in earlier.stats.get("procedures", ())}
        seconds = reading.stats.get("uptime", 1.0) if earlier is None else reading.at - earlier.at
        for each in reading.stats.get("procedures", ()):
            then = counted.get(_name(each), {})
            rates = (max(0.0, each[what] - then.get(what, 0)) / max(seconds, 1e-6) for what in ("calls", "errors"))
            found.setdefault(_name(each), []).append((each, *rates))
    return [_load(api, procedure, of) for (api, procedure), of in found.items()]


def _name(row: dict[str, Any]) -> tuple[str, str]:
    return row["api"], row["procedure"]


def _load(api: str, procedure: str, rows: list[tuple[dict[str, Any], float, float]]) -> ProcedureLoad:
    slowest = max((each for each, _, _ in rows), key=lambda each: each["p99"] or 0.0)
    return ProcedureLoad(
        api=api,
        procedure=procedure,
        workers=len(rows),
        calls=sum(calls for _, calls, _ in rows),
        errors=sum(errors for _, _, errors in rows),
        p50=slowest["p50"],
        p99=slowest["p99"],
    )
