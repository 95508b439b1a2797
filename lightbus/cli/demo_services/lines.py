"""The output of the demo: service, action, details; in colours if the terminal supports them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from .workers import Observation

__all__ = ["Lines", "spelled"]

WIDTH = 100
"""The width beyond which a note gets a line of its own."""

COLOURS = {"demo": "bold", "client": "green", "auth": "cyan", "customers": "magenta"}


def spelled(name: str, kwargs: Mapping[str, Any]) -> str:
    """Return a call or an event as Python code: `auth.check_password(user='admin')`."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"


class Lines:
    """Standard output, line by line. No colours without a terminal, or if `NO_COLOR` is set (no-color.org)."""

    def __init__(self) -> None:
        from rich.console import Console

        in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        # Without a colour system rich writes plain text; with NO_COLOR alone it would still write bold and dim.
        self._console = Console(color_system="auto" if in_colour else None, highlight=False, soft_wrap=True)

    def line(self, who: str, verb: str, text: str, note: str = "") -> None:
        """Write one line. `note` is a detail that the reader may skip."""
        from rich.text import Text

        line = Text.assemble((f"{who:<10}", COLOURS.get(who, "")), (f"{verb:<11}", "bold"))
        indent = " " * len(line)
        line.append(text)
        if note:
            fits = len(line) + len(note) + 2 <= WIDTH
            line.append(f"  {note}" if fits else f"\n{indent}{note}", style="dim")
        self._console.print(line)

    def plain(self, text: str = "") -> None:
        """Write text without markup, so that a command in it can be copied."""
        self._console.print(text, markup=False)

    def observation(self, seen: Observation) -> None:
        """Write an observation of a worker."""
        match seen["what"]:
            case "listens":
                text = f"{', '.join(seen['events'])} of {seen['publisher']} -> {seen['listener']}"
                self.line(seen["service"], "listens", text, f"subscribed at {seen['where']}")
            case "hears":
                text = f"{spelled(seen['name'], seen['kwargs'])} -> {seen['listener']}"
                self.line(seen["service"], "hears", text, f"from {seen['publisher']}, {seen['ms']:.1f} ms after firing")
            case "calls":
                where = f"resolved to {', '.join(seen['where'])}" if seen["where"] else ""
                self.line(seen["service"], "calls", spelled(seen["name"], seen["kwargs"]), where)
            case "got reply":
                self.line(seen["service"], "got reply", f"{seen['result']!r} of {seen['name']} in {seen['ms']:.1f} ms")
            case "served":
                self.line(seen["service"], "served", f"{spelled(seen['name'], seen['kwargs'])} -> {seen['result']!r}")
            case "fired":
                self.line(seen["service"], "fired", spelled(seen["name"], seen["kwargs"]))
