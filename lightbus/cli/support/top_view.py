"""The view of `lightbus top`: sorting and filter, and the keys that change them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["SORTS", "TopView"]

SORTS = {"s": "service", "c": "calls", "p": "p99", "e": "errors", "v": "events", "l": "lag"}
"""Key -> the attribute to sort rows by; all but the service in descending order."""

ESCAPE = "\x1b"
QUIT = ("q", "\x03")
"""q, and Ctrl-C if the terminal passes it on as a key. Escape quits, too, unless a filter is being typed."""
ENTER = ("\r", "\n")
BACKSPACE = ("\x7f", "\b")


@dataclass(slots=True, kw_only=True)
class TopView:
    """
    Which rows are shown, and in which order.

    Attributes:
        sort: the attribute to sort by, one of `SORTS`' values.
        by_procedure: whether the rows are procedures instead of workers.
        only: the filter: a part of a row's name, or a pattern with `*`; empty for all.
        is_typed: whether `only` is being typed, so that keys belong to it.
        over: whether the command is to end.

    """

    sort: str = "calls"
    by_procedure: bool = False
    only: str = ""
    is_typed: bool = False
    over: bool = False

    def wants(self, names: Iterable[str]) -> bool:
        """Return whether to show a row: whether one of its names contains the filter, or matches it as a pattern."""
        wanted = self.only.lower()
        if "*" in wanted:
            return any(fnmatchcase(name.lower(), wanted) for name in names)
        return any(wanted in name.lower() for name in names)

    def press(self, keys: str) -> None:
        """Handle keys that were read together; an empty text means that standard input is closed."""
        if not keys:
            self.over = True
        elif keys == ESCAPE:
            self.over = not self.is_typed
            self.is_typed, self.only = False, ""
        elif not keys.startswith(ESCAPE):  # not an escape sequence, as of an arrow key: those have no meaning here
            for key in keys:
                self._press(key)

    def _press(self, key: str) -> None:
        if self.is_typed:
            self._type(key)
        elif key in QUIT:
            self.over = True
        elif key == "/":
            self.is_typed, self.only = True, ""
        elif key == "r":
            self.by_procedure = not self.by_procedure
        else:
            self.sort = SORTS.get(key, self.sort)

    def _type(self, key: str) -> None:
        if key in ENTER:
            self.is_typed = False
        elif key in BACKSPACE:
            self.only = self.only[:-1]
        elif key == QUIT[1]:
            self.over = True
        elif key.isprintable():
            self.only += key

    @property
    def keys(self) -> str:
        """The help for the keys, for the last line of the screen."""
        if self.is_typed:
            return f"only: {self.only}_ (Enter keeps it, Esc shows all)"
        sorts = ", ".join(f"{key} {name}" for key, name in SORTS.items())
        rows = "workers" if self.by_procedure else "procedures"
        which = f"only '{self.only}', " if self.only else ""
        return f"{which}by {self.sort}: {sorts}; r {rows}, / only some; q quits"
