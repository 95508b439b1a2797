"""The run: interleaved rounds of both sides, medians, one line for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from .programs import Figures, MeasurementFailed
from .rows import SIDE_BY_SIDE, Figure, Row, Verdict, verdict
from .sides import Side

__all__ = ["Line", "Notebook", "lines", "run", "run_in_turn"]


class Notebook:
    """One side's figures, round by round. Without a `side` it stays empty. `say` reports the present measurement."""

    def __init__(self, name: str, side: Side | None, say: Callable[[str], None]) -> None:
        self.name = name
        self._side = side
        self._say = say
        self.figures: dict[str, list[Figures]] = {}
        self.failures: dict[str, str] = {}

    def take(self, measurement: str, number: int) -> None:
        """Measure, unless round `number` has it already or it has failed once: a failure would only repeat itself."""
        taken = self.figures.setdefault(measurement, [])
        if self._side is None or len(taken) >= number or measurement in self.failures:
            return
        self._say(f"round {number}: {measurement} ({self.name})")
        try:
            taken.append(self._side.measure(measurement))
        except MeasurementFailed as error:
            self.failures[measurement] = str(error)

    def median(self, figure: Figure) -> float | None:
        """Return the figure's median over the rounds; None if it was not measured."""
        taken = self.figures.get(figure.measurement)
        return median(one[figure.name] for one in taken) if taken else None

    def best(self, row: Row) -> float | None:
        """Return the best of the rounds for a row; None if it was not measured."""
        taken = self.figures.get(row.ours.measurement)
        values = [one[row.ours.name] for one in taken or ()]
        return (min if row.lower else max)(values, default=None)

    def total(self, figure: Figure) -> float:
        """Return the figure's sum over the rounds that have it."""
        return sum(one.get(figure.name, 0) for one in self.figures.get(figure.measurement, []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row with its figures, ours (`value`) and raw (None where not measured); how many events of ours were lost."""

    row: Row
    value: float | None
    raw: float | None
    lost: float
    failure: str

    @property
    def ratio(self) -> float | None:
        """Ours to raw."""
        return self.value / self.raw if self.value is not None and self.raw else None

    @property
    def verdict(self) -> Verdict:
        """How far it has come; UNRATED without both figures."""
        if self.value is None or self.raw is None:
            return Verdict.UNRATED
        return verdict(self.row, self.value, self.raw)


def run(rows: Iterable[Row], raw: Notebook, ours: Notebook, *, rounds: int, others: Iterable[Notebook] = ()) -> None:
    """
    Fill the notebooks with what the rows need. Raw comes right before ours, so that both meet the same machine.

    `others` are ours in other modes: they take what is set side by side.
    """
    rows, others = list(rows), list(others)
    for number in range(1, rounds + 1):
        for row in rows:
            raw.take(row.raw.measurement, number)
            ours.take(row.ours.measurement, number)
            for other in others if row.name in SIDE_BY_SIDE else ():
                other.take(row.ours.measurement, number)


def run_in_turn(rows: Iterable[Row], before: Notebook, now: Notebook, *, rounds: int) -> None:
    """Fill both notebooks with the figures of the rows, alternating the order in each round."""
    rows = list(rows)
    for number in range(1, rounds + 1):
        for row in rows:
            for each in (before, now) if number % 2 else (now, before):
                each.take(row.ours.measurement, number)


def lines(rows: Iterable[Row], raw: Notebook, ours: Notebook) -> list[Line]:
    """Return a line for each row."""
    return [
        Line(
            row=row,
            value=ours.median(row.ours),
            raw=raw.median(row.raw),
            lost=ours.total(Figure(measurement=row.ours.measurement, name="lost")),
            failure=ours.failures.get(row.ours.measurement, "") or raw.failures.get(row.raw.measurement, ""),
        )
        for row in rows
    ]
