"""Counts and time units of the tests, set by the environment."""

from __future__ import annotations

import os

__all__ = ["MS", "PATIENCE", "SCALE", "examples", "scaled"]

SCALE = float(os.environ.get("LIGHTBUS_TEST_SCALE", "0.1"))
"""The part of the full counts that a run does: 1 in `nox -s soak`, a tenth elsewhere (`LIGHTBUS_TEST_SCALE`)."""

_UNIT = float(os.environ.get("LIGHTBUS_TEST_TIME_UNIT", "1"))

MS = 0.001 * _UNIT
"""A millisecond, in seconds, for durations inside a test; longer on a slow machine (`LIGHTBUS_TEST_TIME_UNIT`)."""

PATIENCE = max(1.0, _UNIT)
"""Factor on every bounded wait: a slow machine makes tests wait longer, a fast one never shorter."""


def scaled(count: int, *, least: int = 1) -> int:
    """Return the part of the full `count` for this run, and not fewer than `least`."""
    return max(least, round(count * SCALE))


def examples(count: int) -> int:
    """
    Return how many examples of a property, or damaged inputs, this run tries: of the full `count` a hundredth where
    other counts are a tenth. They are random: many runs find what one does not.
    """
    return max(20, round(count * SCALE * SCALE))
