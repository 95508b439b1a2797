"""The answers of all peers in one round of requests, and the rates between two rounds. No I/O."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..cli.commands.graph import Edge
from ..cli.commands.peers import PeerReport
from ..cli.support.loads import Load, Reading, loads

__all__ = ["KEPT", "Round", "RoundKey", "Series", "edge_rates", "rates"]

KEPT = 150
"""The number of rounds in a curve."""

RoundKey: TypeAlias = tuple[str, ...]
"""The key of a count: service, kind, API, name. Kinds: `calls`, `errors`, `published`, `handled`, `failed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """
    The answers of one round of requests.

    Attributes:
        number: from 1.
        at: the time of the round by the monotonic clock.
        clock: the time of the round in seconds since 1970.
        reports: the reports of all known peers, without commands such as this one.
        skews: by how many seconds the clock of an instance is ahead.
        edges: which service uses which, since the start of the workers.
        groups: the report of each publisher on each group.
        journals: the report of each publisher on each journal, with `publisher` and `instance`.

    """

    number: int
    at: float
    clock: float
    reports: list[PeerReport] = field(default_factory=list)
    skews: dict[str, float] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    journals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def live(self) -> list[PeerReport]:
        """Return the reports of the peers that answered."""
        return [each for each in self.reports if each.rtt is not None]

    def loads(self, before: Round | None) -> dict[str, Load]:
        """Return the load of each process by its instance."""
        earlier = {} if before is None else {each.peer.instance: _reading(each, before.at) for each in before.live}
        readings = [_reading(each, self.at) for each in self.live]
        return dict(zip((each.peer.instance for each in readings), loads(earlier, readings), strict=True))


def rates(now: Round, before: Round | None) -> dict[RoundKey, float]:
    """Return the rates per second between two rounds, over the processes of a service that are in both."""
    found: defaultdict[RoundKey, float] = defaultdict(float)
    if before is None:
        return found
    seconds = max(now.at - before.at, 1e-6)
    earlier = {each.peer.instance: dict(_counted(each)) for each in before.live}
    for each in now.live:
        known = earlier.get(each.peer.instance)
        for key, count in _counted(each):
            found[key] += 0.0 if known is None else max(0, count - known.get(key, 0)) / seconds
    return found


def edge_rates(now: Round, before: Round | None) -> dict[tuple[str, str, str, str], tuple[float, float]]:
    """Return the uses and the failures per second of each edge between two rounds."""
    if before is None:
        return {}
    seconds = max(now.at - before.at, 1e-6)
    earlier = {(each.source, each.target, each.kind, each.name): each for each in before.edges}
    found = {}
    for each in now.edges:
        key = each.source, each.target, each.kind, each.name
        known = earlier.get(key, each)
        found[key] = max(0, each.count - known.count) / seconds, max(0, each.errors - known.errors) / seconds
    return found


class Series:
    """The latest values of each curve, by name. A curve that gets no value in a round is dropped."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        """An array takes a quarter of the memory of a list: a bus of a hundred workers has thousands of curves."""

    def note(self, values: Iterable[tuple[str, float]]) -> None:
        """Append a value to each of these curves, and drop all others."""
        known, self._values = self._values, {}
        for name, value in values:
            curve = self._values[name] = known.get(name, array("d"))
            curve.append(round(value, 3))
            del curve[:-KEPT]

    def of(self, name: str) -> list[float]:
        """Return a curve, oldest first."""
        return [*self._values.get(name, ())]


def _reading(report: PeerReport, at: float) -> Reading:
    return Reading(peer=report.peer, at=at, stats=report.stats)


def _counted(report: PeerReport) -> Iterator[tuple[RoundKey, int]]:
    service, stats = report.peer.announcement.service, report.stats
    for each in stats.get("procedures", ()):
        yield (service, "calls", each["api"], each["procedure"]), each["calls"]
        yield (service, "errors", each["api"], each["procedure"]), each["errors"]
    for each in stats.get("events", ()):
        yield (service, "published", each["api"], each["event"]), each["published"]
    for each in stats.get("listeners", ()):
        yield (service, "handled", each["api"], each["name"]), sum(each["handled"].values())
        yield (service, "failed", each["api"], each["name"]), each["failed"]
