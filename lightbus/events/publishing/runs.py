"""Queues events that were stored in runs (several of a topic in a row) for publishing, with their sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...adapters.sqlite.journal import Stored
from ...adapters.sqlite.topic import Topic

__all__ = ["queue_runs"]


def queue_runs(
    pending: dict[bytes, list[list[Any]]], runs: Sequence[tuple[bytes, Topic, list[bytes]]], firsts: Sequence[Stored]
) -> list[tuple[Topic, int]]:
    """
    Add the events of stored runs to the queues of their topics; return the place of the last event of each run.

    Events that the journal had already (repeated hand-offs) were published before, and are not queued.
    """
    lasts: list[tuple[Topic, int]] = []
    for (wire_topic, topic, records), (sequence, previous, is_new) in zip(runs, firsts, strict=True):
        lasts.append((topic, sequence + len(records) - 1))
        if not is_new:
            continue
        entries: list[list[Any]] = [[each, each - 1, record] for each, record in enumerate(records, sequence)]
        entries[0][1] = previous
        if wire_topic in pending:
            pending[wire_topic] += entries
        else:
            pending[wire_topic] = entries
    return lasts
