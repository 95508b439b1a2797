"""The screen of `lightbus top`, from the rows, the view and the terminal's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.console import Group, RenderableType
from rich.text import Text

from ...phrases import clean
from .loads import GROUP_COLUMNS, GroupLag, Load, ordered, worker_table
from .output import Column, number, table
from .procedure_loads import PROCEDURE_COLUMNS, ProcedureLoad
from .top_view import TopView

__all__ = ["Rows", "drawn"]


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a reading."""

    workers: Sequence[Load]
    procedures: Sequence[ProcedureLoad]
    groups: Sequence[GroupLag]

    def workers_shown(self, view: TopView) -> list[Load]:
        """Return the workers to show, sorted."""
        return ordered((row for row in self.workers if view.wants(row.names)), view.sort)

    def procedures_shown(self, view: TopView) -> list[ProcedureLoad]:
        """Return the procedures to show, sorted."""
        return ordered((row for row in self.procedures if view.wants(row.names)), view.sort)

    def groups_shown(self, view: TopView) -> list[GroupLag]:
        """Return the groups to show, the largest lag first."""
        return [group for group in self.groups if view.wants(group.names)]


def drawn(rows: Rows, view: TopView, *, bus: str, size: tuple[int, int]) -> RenderableType:
    """Return the screen for a terminal of so many columns and lines."""
    width, height = size
    if view.by_procedure:
        columns: Sequence[Column] = PROCEDURE_COLUMNS
        cells = [row.row() for row in rows.procedures_shown(view)]
    else:
        columns, cells = worker_table(rows.workers_shown(view))
    groups = rows.groups_shown(view)
    keys = wrap(view.keys, width) or [""]
    height -= len(keys) - 1
    # A third of the lines between head and keys is for the groups; each table has a line for its heading.
    listed = groups[: max(1, (height - 4) // 3)]
    room = max(1, height - 5 - len(listed)) if listed else max(1, height - 4)
    shown, _ = table(columns, cells[:room], width)
    more = [_line(f"and {len(cells) - room} more", "dim")] if len(cells) > room else []
    lags = [table(GROUP_COLUMNS, [group.row() for group in listed], width)[0]] if listed else []
    return Group(_line(_head(rows, bus), "bold"), shown, *more, *lags, *(_line(each, "dim") for each in keys))


def _head(rows: Rows, bus: str) -> str:
    calls, events = (sum(getattr(row, name) for row in rows.workers) for name in ("calls", "events"))
    head = f"bus {bus}: {len(rows.workers)} workers, {number(round(calls, 1))} calls/s, "
    head += f"{number(round(events, 1))} events/s"
    if rows.groups:
        count = "1 group" if len(rows.groups) == 1 else f"{len(rows.groups)} groups"
        head += f", {count}, lag {number(sum(group.lag for group in rows.groups))}"
    return head


def _line(text: str, style: str) -> Text:
    return Text(clean(text), style=style, no_wrap=True, overflow="ellipsis")
