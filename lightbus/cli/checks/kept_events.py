"""Checks of events: are they handled, does anything block them, were any lost?"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ...adapters.sqlite.outbox import OUTBOX
from ...adapters.sqlite.quarantine import quarantine_sentences
from ...core.peers import Peer
from ...engine.forwarding import refusals
from ...engine.peer_api import HAS_STOPPED, NOT_KEPT
from ...exceptions import JournalError
from ..support.connection import Connection
from ..support.group_pace import (
    BETWEEN_LOOKS,
    GroupProblem,
    group_at,
    group_problems,
    named,
    silent_members,
    stopped_listeners,
)
from ..support.publishers import ask_publishers, groups_on_bus
from .finding import CheckContext, Finding, Level

__all__ = ["check_groups", "check_health", "check_journals"]

GRAVE = (NOT_KEPT, HAS_STOPPED)
"""Parts of a worker's problem texts that make them errors: events are not stored or not handled until someone acts."""

NEAR_CAP = 0.9
"""The fill level of a journal above which it is a finding."""


async def check_health(context: CheckContext) -> AsyncIterator[Finding]:
    """Report the problems of workers, and orphaned events."""
    peers = [report.peer for report in context.live]
    refused = set(_refused_here(context))
    for peer, health in zip(peers, await context.bus.ask_all(peers, "health"), strict=True):
        refused.update(health.get("refused", ()))  # all processes of a host report the same
        for problem in health.get("problems", ()):
            yield _finding_of(peer, check="health", text=problem)
        if losses := health.get("losses", ()):  # those of one process mostly have one cause
            yield _finding_of(peer, check="losses", text=" ".join(losses))
    for text in sorted(refused):
        yield Finding(level=Level.WARNING, check="outbox" if OUTBOX in text else "journals", text=text)
    if not context.live:
        async for finding in _unserved_outbox(context):
            yield finding


def _finding_of(peer: Peer, *, check: str, text: str) -> Finding:
    about = frozenset({peer.instance})
    level = Level.ERROR if any(grave in text for grave in GRAVE) else Level.WARNING
    return Finding(level=level, check=check, text=f"{peer.announcement}: {text}", about=about)


async def _unserved_outbox(context: CheckContext) -> AsyncIterator[Finding]:
    """Report events that wait on this host for a publisher, if no peer answers that might be one."""
    engine = context.bus.client.engine
    outbox = engine.outbox
    if not outbox.exists():
        return
    try:
        waiting = await asyncio.to_thread(outbox.counts)
    except JournalError:
        return  # `_refused_here` reports an unreadable outbox
    for api, count in sorted(waiting.items()):
        yield Finding(
            level=Level.WARNING,
            check="outbox",
            text=f"{count} events of {api} wait on this host, in {outbox.path}, and no worker takes care of them.",
            remedy="Start any worker of this bus here, as this user and with this LIGHTBUS_DATA_DIR.",
        )


def _refused_here(context: CheckContext) -> list[str]:
    engine = context.bus.client.engine
    damaged = quarantine_sentences(engine.journals.path, engine.identity.host)
    try:
        return refusals(engine.outbox, engine.identity.host) + damaged
    except JournalError as error:
        return [str(error), *damaged]


async def check_groups(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether the groups make progress with their events."""
    groups = await groups_on_bus(context.bus) if context.live else []
    later = await _groups_later(context.bus, groups)
    stopped = await _stopped(context)
    reports: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for group in groups:
        reports[group["api"], group["name"]].append(group)
    for of, rows in reports.items():
        silent = silent_members(of[1], context.silent)
        pairs = [(each, later.get(_at(each))) for each in rows]
        is_anybody_silent = bool(context.bus.silent)
        for wrong in group_problems(
            rows, pairs, stopped.get(of, ""), silent=silent, is_anybody_silent=is_anybody_silent
        ):
            yield _of_group(of[1], wrong)
    for name, wrong in _dead(groups):
        yield _of_group(name, wrong)


def _of_group(name: str, wrong: GroupProblem) -> Finding:
    return Finding(
        level=Level.WARNING, check="groups", text=wrong.text, remedy=wrong.remedy, group=name,
        is_deserted=wrong.is_deserted,
    )  # fmt: skip


def _dead(groups: list[dict[str, Any]]) -> Iterator[tuple[str, GroupProblem]]:
    """Report each group's dead letters once: a publisher counts them again for each API that the group listens to."""
    dead: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for group in groups:
        if group["dead"]:
            dead[group["name"]].append(group)
    for name, reports in dead.items():
        count = sum({each["instance"]: each["dead"] for each in reports}.values())
        yield name, GroupProblem(f"Dead letters of {group_at(reports)}: {count}.", "`lightbus dead list` shows them.")


async def _stopped(context: CheckContext) -> dict[tuple[str, str], str]:
    peers = [report.peer for report in context.live]
    answers = await context.bus.ask_all(peers, "stats")
    return stopped_listeners((peer.announcement, stats) for peer, stats in zip(peers, answers, strict=True))


async def _groups_later(bus: Connection, groups: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the groups with members a little later; without a wait if no such group has events to handle."""
    if not any(group["lag"] and group["members"] for group in groups):
        return {}
    await asyncio.sleep(BETWEEN_LOOKS)
    return {_at(group): group for group in await groups_on_bus(bus) if group["members"]}


def _at(group: dict[str, Any]) -> tuple[str, ...]:
    return group["api"], group["name"], group["instance"]


async def check_journals(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether journals lost events, or soon will."""
    answers = await ask_publishers(context.bus, "journals") if context.live else []
    for finding in _deleted(answers):
        yield finding
    for peer, journals in answers:
        for journal in journals:
            if not journal["max_events"]:
                continue
            share = max(journal["events"] / journal["max_events"], journal["bytes"] / journal["max_bytes"])
            if share > NEAR_CAP:
                yield Finding(
                    level=Level.WARNING,
                    check="journals",
                    text=f"the journal {journal['path']} of {peer.announcement} is {share:.0%} full.",
                    remedy="Beyond that the oldest events are deleted, handled or not: see `lightbus lag`.",
                    about=frozenset({peer.instance}),
                )


def _deleted(answers: list[tuple[Peer, list[dict[str, Any]]]]) -> Iterator[Finding]:
    """Report for each group, once, the events deleted before it had handled them, over all events and journals."""
    lost: defaultdict[str, list[tuple[Peer, dict[str, Any]]]] = defaultdict(list)
    for peer, journals in answers:
        for journal in journals:
            for loss in journal["lost"]:
                lost[loss["group"]].append((peer, loss))
    for group, losses in lost.items():
        counts: Counter[str] = Counter()
        for _, loss in losses:
            counts[f"{loss['api']}.{loss['event']}"] += loss["count"]
        what = " and ".join(f"{count} events of {name}" for name, count in sorted(counts.items()))
        where = named({str(peer.announcement) for peer, _ in losses})
        yield Finding(
            level=Level.ERROR,
            check="journals",
            text=f"{what} were deleted by {where} before the group {group} had handled them.",
            remedy="Raise journal.max_events or journal.max_bytes there, or what the event backend is to keep, "
            "or run the group's processes more.",
            about=frozenset(peer.instance for peer, _ in losses),
            group=group,
        )
