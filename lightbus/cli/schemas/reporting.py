"""Show changes of schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ..support.output import Output
from .changes import SchemaChange, breaking

__all__ = ["report"]


def report(output: Output, found: Sequence[SchemaChange]) -> None:
    """Write a line for each change, breaking ones first, and how many there are."""
    for each in sorted(found, key=lambda each: not each.breaks):
        if output.as_json:
            output.record(asdict(each))
        else:
            verdict = f"breaks {' and '.join(each.breaks)}" if each.breaks else "compatible"
            output.line((f"{verdict}  ", "red" if each.breaks else "green"), (each.name, "bold"), f": {each.change}")
    if not output.as_json:
        count = breaking(found)
        changed = f"{len(found)} change{'s' if len(found) > 1 else ''}, {count} breaking."
        output.line(changed if found else "Nothing has changed.")
