"""The lists that commands show: columns, sorting, once or repeatedly."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from ...exceptions import NotReachable, did_you_mean
from .connection import Connection, passes, stop_requested
from .output import Cell, Column, table

__all__ = ["ListView", "Listing", "Row", "list_options", "show_list"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """
    How to show a list.

    Attributes:
        columns: the names of the columns to show, in this order; empty for all.
        sort: the name of the column to sort by, with `-` in front in descending order; empty for the list's own order.
        every: seconds between two updates; None to show it once.

    """

    columns: tuple[str, ...] = ()
    sort: str = ""
    every: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its fields for the JSON output, and its cells in the order of the table's columns."""

    fields: Mapping[str, Any]
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The rows of a list, the text for an empty list, and the exit code."""

    rows: Sequence[Row]
    empty: str
    code: int = 0


Read = Callable[[Connection], Awaitable[Listing]]


def list_options(function: F) -> F:
    """Add --columns, --sort, --watch and --every; the command gets them as one ListView, `view`."""

    @functools.wraps(function)
    def command(*args: Any, columns: str, sort: str, watch: bool, every: float, **given: Any) -> None:
        chosen = tuple(name.strip() for name in columns.split(",") if name.strip())
        function(*args, view=ListView(columns=chosen, sort=sort, every=every if watch else None), **given)

    decorated: Any = command
    for option in reversed(
        [
            click.option("--columns", default="", metavar="NAMES", help="Show only these columns: SERVICE,HOST"),
            click.option("--sort", default="", metavar="NAME", help="Sort by a column; -NAME from the greatest down."),
            click.option("--watch", "-w", is_flag=True, help="Show it again and again, until Ctrl-C."),
            click.option(
                "--every", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, metavar="SECONDS",
                help="How often, with --watch.",
            ),
        ]
    ):  # fmt: skip
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


async def show_list(bus: Connection, view: ListView, columns: Sequence[Column], read: Read) -> int:
    """Show a list as `view` asks; return the exit code. Raises click.UsageError for an unknown column."""
    _check(view, columns, as_json=bus.output.as_json)
    if view.every is None:
        listing = await read(bus)
        _show(bus, view, columns, listing)
        return listing.code
    done = stop_requested()
    with _screen(bus, view, columns) as show:
        while not done.is_set():
            try:
                show(await read(bus))
            except NotReachable as error:  # peers may come back
                show(Listing(rows=[], empty=str(error)))
            await passes(done, view.every)
    return 0


def _arranged(view: ListView, columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    """Return rows in the wanted order; rows without a value are last."""
    if not view.sort:
        return [*rows]
    name = view.sort.removeprefix("-")
    values = [(_value(row, name, columns), row) for row in rows]
    with_one = sorted(
        (pair for pair in values if pair[0] is not None),
        key=lambda pair: _order(pair[0]),
        reverse=view.sort.startswith("-"),
    )
    return [row for _, row in [*with_one, *(pair for pair in values if pair[0] is None)]]


def _value(row: Row, name: str, columns: Sequence[Column]) -> Any:
    """Return the sort value of a row: its field of that name, else the text of the column."""
    if name.lower() in row.fields:
        return row.fields[name.lower()]
    cell = row.cells[_index(name, columns)]
    return (cell if isinstance(cell, str) else cell[0]) or None


def _order(value: Any) -> tuple[int, Any]:
    """Return a sort key for a value of any type: numbers before strings, lists and mappings by length."""
    if isinstance(value, int | float):
        return 0, value
    return (0, len(value)) if isinstance(value, list | dict | tuple) else (1, str(value))


def _check(view: ListView, columns: Sequence[Column], *, as_json: bool) -> None:
    titles = [column.title for column in columns]
    for name in [*view.columns, *([view.sort.removeprefix("-")] if view.sort else [])]:
        if not as_json and name.upper() not in titles:
            near = did_you_mean(name.upper(), titles)
            raise click.UsageError(f"There is no column {name!r:.100}.{near} There are: {', '.join(titles)}.")


def _index(name: str, columns: Sequence[Column]) -> int:
    return next(index for index, column in enumerate(columns) if column.title == name.upper())


def _chosen(view: ListView, columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns to show, and the cells of each row; explicitly chosen columns are never left out."""
    if not view.columns:
        return [*columns], [[*row.cells] for row in rows]
    indexes = [_index(name, columns) for name in view.columns]
    chosen = [Column(title=columns[index].title, right=columns[index].right) for index in indexes]
    return chosen, [[row.cells[index] for index in indexes] for row in rows]


def _show(bus: Connection, view: ListView, columns: Sequence[Column], listing: Listing) -> None:
    if bus.output.as_json:
        _record(bus, view, listing, columns)
    elif listing.rows:
        bus.output.table(*_chosen(view, columns, _arranged(view, columns, listing.rows)))
    else:
        bus.output.note(listing.empty)


def _record(bus: Connection, view: ListView, listing: Listing, columns: Sequence[Column]) -> None:
    names = [name.lower() for name in view.columns]
    fields = sorted({name for row in listing.rows for name in row.fields})
    for name in [*names, *([view.sort.removeprefix("-").lower()] if view.sort else [])]:
        if fields and name not in fields:
            near, there = did_you_mean(name, fields), ", ".join(fields)
            raise click.UsageError(f"There is no field {name!r:.100}.{near} There are: {there}.")
    for row in _arranged(view, columns, listing.rows):
        bus.output.record({name: row.fields[name] for name in names} if names else row.fields)


@contextmanager
def _screen(bus: Connection, view: ListView, columns: Sequence[Column]) -> Iterator[Callable[[Listing], None]]:
    """Yield a function that shows a listing; on a terminal it replaces the previous one."""
    if bus.output.as_json or not bus.output.console.is_terminal:
        yield lambda listing: _show(bus, view, columns, listing)
        return
    from rich.live import Live

    with Live(console=bus.output.console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        yield lambda listing: live.update(_drawn(bus, view, columns, listing), refresh=True)


def _drawn(bus: Connection, view: ListView, columns: Sequence[Column], listing: Listing) -> Any:
    from rich.console import Group
    from rich.text import Text

    width, height = bus.output.console.size
    head = Text(f"bus {bus.name}, every {view.every:g} s; Ctrl-C ends it.", style="dim")
    if not listing.rows:
        return Group(head, Text(listing.empty, style="dim"))
    room = max(1, height - 4)
    rows = _arranged(view, columns, listing.rows)
    shown, _ = table(*_chosen(view, columns, rows[:room]), width)
    more = [Text(f"and {len(rows) - room} more", style="dim")] if len(rows) > room else []
    return Group(head, shown, *more)
