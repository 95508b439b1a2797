"""
The output of commands: tables and lines as text, or for programs (`--json`) one JSON object per line, or YAML or CSV.

Text adapts to the width of the terminal, and has colours only on a terminal; into a pipe nothing is cut off. The names
of the JSON fields are in docs/cli.md, and do not change. Text from the bus is untrusted: its control characters are
escaped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ...phrases import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

__all__ = [
    "FORMS",
    "Cell",
    "Column",
    "CsvRows",
    "Output",
    "ago",
    "duration",
    "json_line",
    "listed",
    "number",
    "size",
    "table",
    "yaml_document",
]

Cell: TypeAlias = str | tuple[str, str]
"""Text, or text and its style in rich's words: `("up", "green")`."""

FORMS = ("json", "yaml", "csv")
"""The output formats for programs."""

GAP = 2
"""Spaces between two columns of a table."""

MOST_LISTED = 30
"""The most names in one sentence; of the others it gives the number."""

UNBOUNDED = 10_000
"""The width of output into a pipe, where nothing is cut off."""

_DURATIONS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    One column of a table.

    Attributes:
        title: its heading.
        right: whether it is aligned right, as numbers are.
        optional: 0 for a column that is always shown; of the others the greatest is left out first if width is short.

    """

    title: str
    right: bool = False
    optional: int = 0


class Output:
    """
    Standard output, for people or for programs. Notes go to standard error, so that a pipe gets only the output.

    Args:
        as_json: whether the output is for programs.
        form: the format for programs, one of `FORMS`.

    """

    def __init__(self, *, as_json: bool = False, form: str | None = None) -> None:
        self.as_json = as_json
        self.form = form or "json"
        self._record = {"yaml": yaml_document, "csv": CsvRows().rows}.get(self.form, json_document)
        self._consoles: dict[bool, Console] = {}
        self._bar: Progress | None = None

    def record(self, fields: Mapping[str, Any]) -> None:
        """Write one object, and flush; JSON is one line."""
        self._make_room()
        sys.stdout.write(self._record(fields))
        sys.stdout.flush()

    def line(self, *cells: Cell) -> None:
        """Write one line of text, made of several parts."""
        self._make_room()
        self.console.print(_text(*cells), soft_wrap=True)
        sys.stdout.flush()

    def paragraph(self, head: Cell, *cells: Cell) -> None:
        """Write a heading and a text beside it that may be long; on a terminal it is wrapped between words."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(_text(head), _text(*cells))
        self.rich(grid)

    def rich(self, what: RenderableType) -> None:
        """Write a renderable of rich; into a pipe without trailing spaces."""
        if self.console.is_terminal:
            self.console.print(what)
            return
        with self.console.capture() as captured:
            self.console.print(what)
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
        sys.stdout.flush()

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Write a table. If it is too wide, optional columns are left out, and a note names them."""
        made, left_out = table(columns, [[*row] for row in rows], self.console.width)
        self.rich(made)
        if left_out:
            self.note(f"Not shown, for lack of width: {', '.join(left_out)} (--json has all).")

    def note(self, text: str) -> None:
        """Write a note to standard error, wrapped between words on a terminal; nothing with `--json`."""
        if not self.as_json:
            self.errors.print(_text((text, "dim")), soft_wrap=not self.errors.is_terminal)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
        """
        Show a progress bar on standard error while the body runs, if that is a terminal and the output is text.

        Yields a function that takes the number of steps done and the present step; without `total` the bar has no end.
        It disappears for good when a line is written to the terminal meanwhile.
        """
        if self.as_json or not self.errors.is_terminal:
            yield lambda steps, what: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = [TextColumn("{task.description}"), BarColumn(), *([MofNCompleteColumn()] if total else [])]
        with Progress(*columns, console=self.errors, transient=True) as bar:
            self._bar = bar
            task = bar.add_task(label, total=total)
            yield lambda steps, what: bar.update(task, completed=steps, description=clean(what) or label)
            self._bar = None

    def _make_room(self) -> None:
        """Remove the bar before a line is written to the same terminal: lines show progress, too."""
        if self._bar is not None and self.console.is_terminal:
            self._bar.stop()
            self._bar = None

    @property
    def console(self) -> Console:
        """Rich's console on standard output."""
        return self._console(errors=False)

    @property
    def errors(self) -> Console:
        """Rich's console on standard error."""
        return self._console(errors=True)

    def _console(self, *, errors: bool) -> Console:
        if errors not in self._consoles:
            from rich.console import Console

            stream = sys.stderr if errors else sys.stdout
            is_terminal = stream.isatty()
            in_colour = is_terminal and not os.environ.get("NO_COLOR")  # no-color.org
            width = _columns() or (None if is_terminal else UNBOUNDED)
            self._consoles[errors] = Console(
                file=stream, color_system="auto" if in_colour else None, highlight=False, width=width, markup=False
            )
        return self._consoles[errors]


def _columns() -> int | None:
    """Return the width that COLUMNS gives; None if it gives none. 0, as some programs set it, gives none either."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    os.environ.pop("COLUMNS", None)  # rich reads it, too, and would write nothing into no columns
    return None


# Formats for programs


def json_document(fields: Mapping[str, Any]) -> str:
    """Return an object as a line of JSON. Each field that is nested too deeply is replaced, as by `json_line`."""
    from ...wire.plain import shown_form

    return json.dumps({name: shown_form(each) for name, each in fields.items()}, ensure_ascii=False) + "\n"


def yaml_document(fields: Mapping[str, Any]) -> str:
    """Return an object as a document of YAML."""
    import yaml

    from ...wire.plain import shown_form

    shown = {name: shown_form(each) for name, each in fields.items()}
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return f"---\n{text}"


class CsvRows:
    """Objects as rows of CSV below a line with the names of the fields; a new such line if the fields change."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def rows(self, fields: Mapping[str, Any]) -> str:
        """Return an object's row, after a line of field names if need be; lists and objects are written as JSON."""
        import csv
        import io

        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        if [*fields] != self._names:
            if self._names:
                writer.writerow(())
            self._names = [*fields]
            writer.writerow(self._names)
        writer.writerow([_csv_cell(value) for value in fields.values()])
        return written.getvalue()


def _csv_cell(value: Any) -> str:
    from ...wire.plain import shown_form

    plain = shown_form(value)
    if plain is None or isinstance(plain, str):
        return plain or ""
    return json.dumps(plain, ensure_ascii=False)


# Values as text


def json_line(value: Any) -> str:
    """
    Return a value of the bus as JSON on one line, with dates, bytes and the like as strings.

    In place of a value that is nested too deeply for JSON stands a sentence (`TOO_DEEP`).
    """
    from ...wire.plain import shown_form

    return json.dumps(shown_form(value), ensure_ascii=False)


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence, in their order: the first `MOST_LISTED`, and the number of the others."""
    every = [*names]
    more = len(every) - MOST_LISTED
    return ", ".join(every[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def duration(seconds: float | None) -> str:
    """Return a duration as text: `"380 us"`, `"12.3 ms"`, `"4.2 s"`, `"3.1 h"`; empty for None."""
    if seconds is None:
        return ""
    for unit, name in _DURATIONS:
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def ago(since: float, now: float) -> str:
    """Return how long ago a moment was, as text. Both are in seconds since 1970; clocks may differ."""
    return duration(max(0.0, now - since)) if now - since >= 1 else "just now"


def number(value: float | None) -> str:
    """Return a count or a rate as text: `"0"`, `"0.3"`, `"12"`, `"4.1k"`, `"2.0M"`; empty for None."""
    if value is None:
        return ""
    for unit, name in ((1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / min(unit, 1e3 if name == 'k' else unit):.1f}{name}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def size(count: float) -> str:
    """Return a number of bytes as text: `"0 B"`, `"312 B"`, `"4.1 kB"`, `"2.0 MB"`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"


# Tables


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> tuple[RenderableType, list[str]]:
    """Return a table no wider than `width` if possible, and the titles of the columns left out for it."""
    from rich.table import Table

    kept = _fitting(columns, rows, width)
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index in kept:
        column = columns[index]
        made.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_text(row[index]) for index in kept))
    return made, [column.title for index, column in enumerate(columns) if index not in kept]


def _text(*cells: Cell) -> Any:
    from rich.text import Text

    return Text.assemble(*(clean(cell) if isinstance(cell, str) else (clean(cell[0]), cell[1]) for cell in cells))


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """Return the indexes of the columns to show."""
    from rich.cells import cell_len

    def widest(index: int) -> int:
        cells = (row[index] for row in rows)
        texts = (cell if isinstance(cell, str) else cell[0] for cell in cells)
        return max(map(cell_len, map(clean, [columns[index].title, *texts])), default=0)

    kept = [*range(len(columns))]
    widths = [widest(index) for index in kept]
    while sum(widths[index] for index in kept) + GAP * len(kept) > width + GAP:
        least = max(kept, key=lambda index: columns[index].optional)
        if not columns[least].optional:
            break
        kept.remove(least)
    return kept
