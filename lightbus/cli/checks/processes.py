"""Checks of the bus's processes: answers, names, clocks, versions."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable

from ...adapters.dns.lookup import lookup_remedy
from ...adapters.host.places import Places
from ...core.peers import Peer
from ...exceptions import LightbusException
from ...membership.seeds import FixedPeer
from ...wire.announcement import Announcement
from ..commands.peers import PeerReport
from ..support.catalogue import served_apis
from ..support.connection import ENDED, Connection
from ..support.output import duration
from .finding import CheckContext, Finding, Level

__all__ = ["check_answers", "check_clocks", "check_names", "check_peers", "check_seeds", "check_versions", "killed"]

MAX_SKEW = 1.0
"""Seconds by which a clock may differ: beyond that the times in logs and of events give the wrong order."""


async def check_seeds(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether the fixed peers answer."""
    node = context.bus.client.engine.node
    if node is None:
        return
    for fixed in node.fixed_peers():
        text = _fixed_peer_text(fixed)
        if fixed.answering and not fixed.problem:
            yield Finding(level=Level.OK, check="fixed peers", text=text)
        else:
            level = Level.WARNING if fixed.answering else Level.ERROR
            remedy = lookup_remedy(fixed.endpoint) if fixed.problem else node.addressing.remedy(fixed.endpoint)
            yield Finding(level=level, check="fixed peers", text=text, remedy=remedy)


def _fixed_peer_text(fixed: FixedPeer) -> str:
    if not fixed.is_name:
        return f"{fixed.endpoint} {'answers' if fixed.answering else 'does not answer'}."
    looked = f"looked up {fixed.lookups} times, {fixed.failed_lookups} of them without success"
    if not fixed.addresses:
        return f"{fixed.endpoint} has no address: {fixed.problem or 'it is being looked up'} ({looked})."
    where = ", ".join(fixed.answering or fixed.addresses)
    answers = f"answers at {len(fixed.answering)} of" if fixed.answering else "answers at none of"
    failing = f"; the latest lookup failed: {fixed.problem}" if fixed.problem else ""
    return f"{fixed.endpoint} {answers} {len(fixed.addresses)} addresses: {where} ({looked}{failing})."


async def check_peers(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether there are peers, and whether all that are announced answer."""
    bus = context.bus
    if not context.reports:
        yield Finding(
            level=Level.WARNING,
            check="peers",
            text=f"no peer is on the bus ({bus.where}).",
            remedy="Start a worker (lightbus run), as this user, with the same LIGHTBUS_BUS and LIGHTBUS_SECURITY. A "
            "program that gives lightbus.create() a transport or a discovery of its own cannot be seen from here.",
        )
    alike: defaultdict[tuple[str, str], list[PeerReport]] = defaultdict(list)
    for report in context.reports:
        if report.rtt is None and not report.has_ended:
            alike[report.state, _remedy(report, bus.client.engine.network.places)].append(report)
    for (state, remedy), several in alike.items():
        yield _silent(state, remedy, several)
    for ended in bus.ended():
        yield killed(ended)
    if context.live:
        slowest = max(report.rtt or 0.0 for report in context.live)
        text = f"{len(context.live)} answer, the slowest in {duration(slowest)}."
        yield Finding(level=Level.OK, check="peers", text=text)


def killed(process: Announcement) -> Finding:
    """Report a process that has ended without a goodbye, on this host or another one."""
    return Finding(
        level=Level.WARNING,
        check="peers",
        text=f"{process} {ENDED}.",
        remedy=f"See the kernel's log on {process.host} (out of memory?), and start it again there if it does not run "
        "again already. What it left is removed by the next worker that starts on that host.",
        about=frozenset({process.instance}),
        services=frozenset({process.service}),
    )


HANGS = (
    "Its sockets are there: its process hangs, or was stopped (state T in `ps`; `kill -CONT` continues it). `ss -xlp` "
    "shows which it is. If it stays so, end it and start it again: the events that it keeps are on disk."
)
"""The remedy for a peer on this host that does not answer. A killed one is reported by `killed`."""


MOST_NAMED = 10
"""The most peers that one sentence names; of the others it gives the number."""


def _remedy(report: PeerReport, places: Places | None) -> str:
    """Return the remedy for a peer that does not answer."""
    if report.state in NOT_SILENT:
        return NOT_SILENT[report.state][2]
    if places is None:
        return "Has it ended, or does a firewall keep its TCP ports from this host?"
    why = places.why_not(report.peer.instance, report.peer.announcement.directory)
    return f"{why[0].upper()}{why[1:]}." if why else HANGS


NOT_SILENT = {
    "draining": ("is shutting down", "are shutting down", ""),
    "refused": ("refuses us", "refuse us", "Give both the same key (lightbus keys)."),
}
"""State -> the text for one peer, the text for several, and the remedy."""


def _silent(state: str, remedy: str, several: list[PeerReport]) -> Finding:
    """Report in one sentence peers with the same problem."""
    silent = (f"is announced, and does not answer ({state})", f"are announced, and do not answer ({state})")
    of_one, of_several = NOT_SILENT.get(state, (*silent, ""))[:2]
    names = ", ".join(str(each.peer.announcement) for each in several[:MOST_NAMED])
    if len(several) > MOST_NAMED:
        names += f" and {len(several) - MOST_NAMED} more"
    return Finding(
        level=Level.OK if state == "draining" else Level.ERROR,
        check="peers",
        text=f"{names} {of_one}." if len(several) == 1 else f"{len(several)} peers {of_several}: {names}.",
        remedy=remedy,
        about=frozenset(each.peer.instance for each in several),
    )


async def check_names(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether processes have different names."""
    named: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for report in context.live:
        named[_named(report.peer)].add(report.peer.instance)
    for (service, process), instances in named.items():
        if len(instances) > 1:
            yield Finding(
                level=Level.WARNING,
                check="names",
                text=f"{len(instances)} processes are called '{service} {process}'.",
                remedy="Leave --process-name out, or put {hostname} and {pid} in it, to tell them apart.",
                about=frozenset(instances),
            )


async def check_clocks(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether the clocks of the workers agree with ours."""
    for report in context.live:
        skew = await _skew(context.bus, report.peer)
        if skew is not None and abs(skew) > MAX_SKEW:
            yield Finding(
                level=Level.WARNING,
                check="clocks",
                text=f"the clock of {report.peer.announcement} is {duration(abs(skew))} "
                f"{'ahead of' if skew > 0 else 'behind'} ours.",
                remedy="Have both hosts keep time (NTP): the times of events and in logs do not fit together.",
                about=frozenset({report.peer.instance}),
            )


async def _skew(bus: Connection, peer: Peer) -> float | None:
    """Return the seconds by which a peer's clock is ahead, assuming that the answer takes half of the round trip."""
    before = time.time()
    try:
        peer_time = await bus.ask(peer, "ping")
    except LightbusException:
        return None
    return float(peer_time) - (before + time.time()) / 2


async def check_versions(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether the peers of each API serve the same version of it."""
    for api in served_apis(report.peer for report in context.reports if not report.has_ended):
        if api.is_mixed:
            services = sorted({peer.announcement.service for peer in api.peers})
            yield Finding(
                level=Level.WARNING,
                check="versions",
                text=f"the {len(api.peers)} peers that serve '{api.name}' do not serve the same "
                f"(versions {', '.join(map(str, api.versions))}; services {', '.join(services)}).",
                remedy="During an update that is so; otherwise update those that `lightbus describe` shows.",
                services=frozenset(services),
            )
    for version, count in _library_versions(context.live):
        yield Finding(level=Level.OK, check="versions", text=f"{count} workers run lightbus {version}.")


async def check_answers(context: CheckContext) -> AsyncIterator[Finding]:
    """Report peers that did not answer a question of the other checks, or sent an invalid answer."""
    for instance, reason in context.bus.unanswered.items():
        yield Finding(
            level=Level.WARNING,
            check="answers",
            text=reason,
            remedy="Its part is left out here. If it is overloaded (`lightbus top`), ask again; if it is of "
            "another version, update it, or this command (`lightbus version`).",
            about=frozenset({instance}),
        )


def _library_versions(reports: Iterable[PeerReport]) -> list[tuple[str, int]]:
    return sorted(Counter(str(report.info.get("version", "unknown")) for report in reports).items())


def _named(peer: Peer) -> tuple[str, str]:
    return peer.announcement.service, peer.announcement.process
