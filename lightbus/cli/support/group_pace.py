"""Whether a group gets on with what it has to handle: two looks at it, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["BEHIND", "BETWEEN_LOOKS", "Trouble", "trouble"]

BETWEEN_LOOKS = 2.0
"""Seconds between the two looks."""

BEHIND = 1000
"""Events that a group may have to handle without a word: it is busy."""


class Trouble(NamedTuple):
    """What is wrong with a group, and what to do about it."""

    text: str
    remedy: str


def trouble(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Trouble | None:
    """
    Return what is wrong with a group of which there are processes; None where it gets on.

    Args:
        name: how it is called in the text.
        first: what its publisher said of it: `lag` in events, and `acks`, how often it has acknowledged anything.
        second: the same, `BETWEEN_LOOKS` seconds later.

    """
    before, now = int(first["lag"]), int(second["lag"])
    if not before or not now:
        return None
    if first.get("acks", -1) == second.get("acks", -2):
        return Trouble(
            f"{name} has {before} events to handle, and handled none for {BETWEEN_LOOKS:g} s.",
            "Does a handler hang, or does one event fail again and again (RETRY)? Look at the log of its processes, "
            "and at `lightbus top`.",
        )
    if now > max(before, BEHIND):
        return Trouble(
            f"{name} has {now} events to handle, {now - before} more than {BETWEEN_LOOKS:g} s ago.",
            "It handles fewer than are fired. Have more of its processes run, raise the `concurrency` of the listener, "
            "or see what takes the handler so long; `lightbus lag` shows whether it catches up.",
        )
    return None
