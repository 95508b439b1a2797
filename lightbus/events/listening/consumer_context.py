"""Shared by the connections to all publishers: our identity, the known groups, and the error counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...membership.context import Identity
from ...membership.guard import Guard
from ..groups.group_records import GroupRecords
from .loss_reports import LossReports
from .reading_pace import ReadingPace

__all__ = ["ConsumerContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerContext:
    """
    Shared state of the listeners of this process. Only touched from the node's loop.

    Attributes:
        identity: the identity of this process.
        records: what is known of our groups.
        losses: reports lost events.
        pace: limits how fast published events are read.
        guard: logs messages of publishers that could not be handled.
        numbers: the numbers of requests to publishers, unique in this process.
        counts: gaps, unreadable, fetched, lost, refused_acks, standstills.

    """

    identity: Identity
    records: GroupRecords
    losses: LossReports
    pace: ReadingPace
    guard: Guard
    counts: Counter[str]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
