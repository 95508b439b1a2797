"""What a process of the bus does for others: serve calls, handle events, run scheduled tasks."""

from __future__ import annotations

from enum import Enum

__all__ = ["ALL_FEATURES", "Feature"]


class Feature(Enum):
    """One kind of work of a worker; `lightbus run --only` and `--skip` choose among them."""

    RPCS = "rpcs"
    EVENTS = "events"
    TASKS = "tasks"


ALL_FEATURES: tuple[Feature, ...] = tuple(Feature)
