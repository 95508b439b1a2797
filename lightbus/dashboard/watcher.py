"""Asks all peers on the bus in regular rounds while a page is open, and none while no page is open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from ..cli.checks.finding import CheckContext, Finding
from ..cli.commands.doctor import CHECKS
from ..cli.commands.graph import edges_between
from ..cli.commands.peers import ENDED_STATE, PeerReport, state_of
from ..cli.support.connection import SERVICE, Connection
from ..cli.support.publishers import ask_each, ask_for_groups
from ..core.peers import Peer
from ..exceptions import LightbusException
from ..membership.link import NOTHING_LISTENS
from ..recurring import RecurringLog
from .round import Round, Series, rates

__all__ = ["Watcher", "interval"]

logger = logging.getLogger("lightbus.dashboard")

EVERY = 2.0
"""The least seconds between two rounds: often enough for a viewer, and little load for the peers."""

LEASE = 5.0
"""Seconds for which rounds continue without a viewer, so that the curves survive a change of pages."""

SLOW_EVERY = 5
"""Rounds between two requests for facts that seldom change: the peer's description and the sizes of its journals."""

EXAMINE_EVERY = 15.0
"""Seconds between two runs of the checks of `lightbus doctor`."""

GONE_FOR = 600.0
"""Seconds for which a lost process is shown."""

PER_PEER = 0.05
"""Seconds between two rounds for each peer: a hundred peers are asked every five seconds."""


def interval(peers: int) -> float:
    """Return the seconds between two rounds for a number of peers."""
    return max(EVERY, PER_PEER * peers)


class Watcher:
    """
    The data that the pages show. Made and used on one event loop.

    Attributes:
        bus: our connection.
        now, before: the latest round, and the one before it; None if there was none yet.
        series: the curves.
        findings: the findings of `lightbus doctor`, worst first.

    """

    def __init__(self, bus: Connection) -> None:
        self.bus = bus
        self.now: Round | None = None
        self.before: Round | None = None
        self.series = Series()
        self.findings: list[Finding] = []
        self.examined = False
        self._viewers = 0
        self._unused_since = 0.0
        self._changed = asyncio.Event()
        self._is_fresh = False
        """Whether `now` is a round since the requests last started; else it only has the number of the last round."""
        self._infos: dict[str, dict[str, Any]] = {}
        self._answered: dict[str, PeerReport] = {}
        """By instance: the latest report of each peer that answered."""
        self._killed: dict[str, tuple[float, PeerReport]] = {}
        """By instance: when a peer was lost without a goodbye, and its latest report."""
        self._journals: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = RecurringLog(logger)

    @property
    def is_watching(self) -> bool:
        """Whether the rounds run."""
        return bool(self._tasks)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Run the rounds within this context, and for `LEASE` seconds after it."""
        self._viewers += 1
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._examine())]
        try:
            yield
        finally:
            self._viewers -= 1
            self._unused_since = time.monotonic()

    async def round_after(self, number: int) -> Round:
        """Return the latest round, once its number is above `number`."""
        while self.now is None or self.now.number <= number or not self._is_fresh:
            await self._changed.wait()
        return self.now

    async def close(self) -> None:
        """Stop the rounds and the checks."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_unused(self) -> bool:
        return not self._viewers and time.monotonic() > self._unused_since + LEASE

    async def _watch(self) -> None:
        self.series, self.before = Series(), None
        self.bus.unanswered.clear()  # from before this start
        while not self._is_unused():
            began = time.monotonic()
            try:
                self._take(await self._ask((self.now.number if self.now else 0) + 1))
            except Exception as error:
                self._failures.log(
                    "round", logging.ERROR,
                    "The dashboard could not ask the bus for its state; it retries every %g s", EVERY, exc_info=error,
                )  # fmt: skip
            every = interval(len(self.now.reports) if self.now else 0)
            await asyncio.sleep(max(every / 4, every - (time.monotonic() - began)))
        self._tasks[1].cancel()
        self._tasks = []
        # Rates would cover the time without rounds.
        self.now = self.now and Round(number=self.now.number, at=self.now.at, clock=self.now.clock)
        self._infos = {}
        # The findings are outdated, too.
        self._is_fresh, self.examined, self.findings = False, False, []

    def _take(self, now: Round) -> None:
        self.before, self.now = self.now if self.now and self.now.reports else None, now
        self._is_fresh = True
        self.series.note(_curves(now, self.before))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _ask(self, number: int) -> Round:
        known = [peer for peer in self.bus.known() if peer.announcement.service != SERVICE and not self._was_lost(peer)]
        is_slow_turn = number % SLOW_EVERY == 1
        seen = await asyncio.gather(*(self._see(peer, again=is_slow_turn) for peer in known))
        at, clock = time.monotonic(), time.time()
        reports = [report for report, _ in seen]
        live = [each for each in reports if each.rtt is not None]
        peers = [each.peer for each in live]
        killed = self._note_killed(reports, clock)
        counted = [*live, *killed]  # so that their past calls and events are still shown
        if is_slow_turn:
            self._journals = _with_publisher(await ask_each(self.bus, peers, "journals", quietly=True))
            self._infos = {each.peer.instance: each.info for each in live}
        return Round(
            number=number,
            at=at,
            clock=clock,
            reports=[*reports, *(PeerReport(peer=each.peer, state=ENDED_STATE) for each in killed)],
            skews={each.peer.instance: skew for each, skew in seen if skew is not None},
            edges=edges_between(
                [each.peer for each in counted], [each.info for each in counted], [each.stats for each in counted]
            ),
            groups=_with_publisher(await ask_for_groups(self.bus, peers, quietly=True)),
            journals=self._journals,
        )

    def _was_lost(self, peer: Peer) -> bool:
        """
        Return whether a peer that answered before has ended: its host refuses connections to it.

        A node keeps trying to connect to a peer of another host, which may come back.
        """
        has_answered = peer.instance in self._answered or peer.instance in self._killed
        return has_answered and not peer.is_live and NOTHING_LISTENS in peer.problem

    def _note_killed(self, reports: list[PeerReport], clock: float) -> list[PeerReport]:
        """Record peers that were lost without a goodbye since the last round; return those of the last minutes."""
        there = {each.peer.instance for each in reports}
        departed = self.bus.client.engine.snapshot.departed
        for instance in self._answered.keys() - there:
            last = self._answered.pop(instance)
            if instance not in departed:
                self._killed[instance] = clock, last
        self._answered |= {each.peer.instance: each for each in reports if each.rtt is not None}
        self._killed = {
            key: seen for key, seen in self._killed.items() if clock - seen[0] < GONE_FOR and key not in there
        }
        return [last for _, last in self._killed.values()]

    async def _see(self, peer: Peer, *, again: bool) -> tuple[PeerReport, float | None]:
        if not peer.is_live:
            return PeerReport(peer=peer, state=state_of(peer)), None
        before, clock = time.perf_counter(), time.time()
        try:
            its_clock = float(await self.bus.ask(peer, "ping"))
        except (LightbusException, TypeError, ValueError):  # no answer, or a wrong one
            return PeerReport(peer=peer, state="suspect"), None
        rtt, skew = time.perf_counter() - before, its_clock - (clock + time.time()) / 2
        info = {} if again else self._infos.get(peer.instance, {})
        if not info:
            self._infos[peer.instance] = info = await self.bus.ask_or_empty(peer, "info")
        stats = await self.bus.ask_or_empty(peer, "stats")
        state = "up" if peer.is_up else state_of(peer)
        return PeerReport(peer=peer, state=state, rtt=rtt, info=info, stats=stats), skew

    async def _examine(self) -> None:
        while True:
            now = await self.round_after(0 if self.now is None else self.now.number)
            self.findings = sorted(await self._found(now), key=lambda each: -each.level)
            self.examined = True
            await asyncio.sleep(EXAMINE_EVERY)

    async def _found(self, now: Round) -> list[Finding]:
        findings: list[Finding] = []
        # Only the present state is reported: the peers of this round that did not answer since the last check.
        self.bus.unanswered.keep_only({each.peer.instance for each in now.reports})
        self.bus.silent.clear()
        self.bus.silent.update(each.peer.instance for each in now.reports if each.rtt is None)
        context = CheckContext(bus=self.bus, reports=now.reports)
        for name, check in CHECKS.items():
            try:
                findings += [finding async for finding in check(context)]
            except LightbusException as error:
                logger.info("A check failed: %s", error)
            except Exception as error:  # the other checks still run
                self._failures.log(check, logging.ERROR, "The check '%s' failed", name, exc_info=error)
        self.bus.unanswered.clear()
        return findings


def _with_publisher(answers: list[tuple[Peer, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Return the entries of the lists in all answers, each with its publisher."""
    return [
        {**each, "publisher": peer.announcement.service, "instance": peer.instance}
        for peer, listed in answers
        for each in listed
    ]


def _curves(now: Round, before: Round | None) -> Iterator[tuple[str, float]]:
    totals = {} if before is None else {"calls": 0.0, "errors": 0.0, "published": 0.0}
    for (service, kind, api, name), rate in rates(now, before).items():
        yield f"{service}/{kind}/{api}.{name}", rate
        if kind in totals:
            totals[kind] += rate
    yield from totals.items()
    lags: dict[str, float] = {}
    for group in now.groups:
        name = f"lag/{group['api']}/{group['name']}"
        lags[name] = lags.get(name, 0.0) + group["lag"]
    yield from lags.items()
    yield "lag", sum(lags.values())
