"""
`lightbus doctor`: looks for what may be wrong with the bus and this host, and says what to do.

A check is a function of an `Examination` that yields findings; `CHECKS` has all of them, in the order of the report.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from ...adapters.host.descriptors import connection_limit, hard_descriptor_limit
from ...adapters.host.directories import data_directory
from ...adapters.host.interfaces import explain
from ...adapters.host.places import REMEDY, Places
from ...adapters.mdns.probe import multicast_problem, port_problem
from ...adapters.sqlite.aside import aside_sentences
from ...adapters.sqlite.outbox import Outbox
from ...core.peers import Peer
from ...deadline import Deadline
from ...engine.forwarding import refusals
from ...exceptions import JournalError, LightbusException
from ..support.catalogue import served_apis
from ..support.connection import Connection, on_bus
from ..support.group_pace import BETWEEN_LOOKS, trouble
from ..support.options import ClientOptions, client_options
from ..support.output import Output, duration
from ..support.publishers import ask_publishers, groups_on_bus
from .peers import Sighting, sight

__all__ = ["CHECKS", "Examination", "Finding", "Level", "doctor"]

MULTICAST_SECONDS = 1.0

NEAR_CAP = 0.9
"""How full a journal may be before it is a finding."""

LITTLE_ROOM = 64 * 1024 * 1024
LITTLE_SHARE = 0.05
"""A disk that has fewer bytes left, and a smaller share of it, is a finding: a small one may be as good as empty."""

FEW_CONNECTIONS = 1024
"""Connections that a worker can have, and that may be too few for it."""

MAX_SKEW = 1.0
"""Seconds by which a clock may differ: times in logs and of events then tell the wrong order."""


class Level(IntEnum):
    """How bad a finding is. The worst is the exit code."""

    OK = 0
    WARNING = 1
    ERROR = 2


STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found (`text`), and what to do about it (`remedy`; empty where nothing is to be done)."""

    level: Level
    check: str
    text: str
    remedy: str = ""

    def fields(self) -> dict[str, Any]:
        """Return it as `--json` has it."""
        return {"level": self.level.name.lower(), "check": self.check, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What all checks look at: the bus, and everybody that was heard of on it."""

    bus: Connection
    sightings: list[Sighting]

    @property
    def live(self) -> list[Sighting]:
        """Return those that answered."""
        return [sighting for sighting in self.sightings if sighting.rtt is not None]

    @property
    def on_host_only(self) -> bool:
        """Whether this bus stays on this host."""
        return not self.bus.client.engine.network.addresses


Check = Callable[[Examination], AsyncIterator[Finding]]


@click.command()
@client_options
def doctor(options: ClientOptions) -> None:
    """Check the bus and this host: one line for each finding, with what to do.

    Exit code 0: nothing is wrong. 1: there are warnings. 2: there are errors.
    """
    on_bus(options, _examine)


async def _examine(bus: Connection) -> int:
    worst = Level.OK
    with bus.output.progress("Looking for peers", len(CHECKS) + 1) as advance:
        await bus.client.engine.questions.look_around(Deadline.after(bus.options.wait))
        examination = Examination(bus=bus, sightings=await sight(bus, bus.known()))
        bus.silent.update(each.peer.instance for each in examination.sightings if each.rtt is None)  # a check tells
        findings = []
        for done, (name, check) in enumerate(CHECKS.items(), 1):
            advance(done, f"Checking {name}")
            findings += [finding async for finding in check(examination)]
    for finding in findings:
        worst = max(worst, finding.level)
        _show(bus.output, finding)
    return worst


def _show(output: Output, finding: Finding) -> None:
    if output.as_json:
        output.record(finding.fields())
        return
    style = STYLES[finding.level]
    remedy = f" {finding.remedy}" if finding.remedy else ""
    output.line((f"{finding.level.name.lower():<8}", style), (f"{finding.check}: ", "bold"), finding.text, remedy)


# This host


async def _bus(examination: Examination) -> AsyncIterator[Finding]:
    engine = examination.bus.client.engine
    yield Finding(
        level=Level.OK, check="bus", text=f"'{examination.bus.name}': {engine.transport.security.describe()}."
    )


async def _interfaces(examination: Examination) -> AsyncIterator[Finding]:
    if examination.on_host_only:
        yield Finding(level=Level.OK, check="interfaces", text="none is used: this bus stays on this host.")
        return
    for report in explain(examination.bus.client.config.network.interfaces):
        yield Finding(level=Level.OK, check="interfaces", text=f"{report}.")


async def _port(examination: Examination) -> AsyncIterator[Finding]:
    if examination.on_host_only:
        return  # nobody is found by it who would not be found without
    problem = port_problem()
    if problem is None:
        yield Finding(level=Level.OK, check="port 5353", text="can be shared.")
        return
    yield Finding(
        level=Level.ERROR,
        check="port 5353",
        text=f"cannot be used ({problem}).",
        remedy="Have the program that holds it share it (`ss -ulnp sport = 5353`), or name a peer: LIGHTBUS_PEERS.",
    )


async def _multicast(examination: Examination) -> AsyncIterator[Finding]:
    if examination.on_host_only:
        return
    backend = examination.bus.client.config.discovery.backend
    if backend != "mdns":
        found = "only fixed peers are found" if backend == "none" else f"peers are found by '{backend}'"
        yield Finding(level=Level.OK, check="multicast", text=f"is not used (discovery.backend): {found}.")
        return
    addresses = examination.bus.client.engine.network.addresses
    problems = await asyncio.gather(*(multicast_problem(each, MULTICAST_SECONDS) for each in addresses))
    for address, problem in zip(addresses, problems, strict=True):
        if problem is None:
            yield Finding(level=Level.OK, check="multicast", text=f"is sent and received at {address}.")
        else:
            yield Finding(
                level=Level.ERROR,
                check="multicast",
                text=f"does not work at {address}: {problem}.",
                remedy="Allow UDP port 5353 to 224.0.0.251 there, use another interface (LIGHTBUS_INTERFACES), "
                "or name a peer: LIGHTBUS_PEERS=host:port.",
            )


async def _sockets(examination: Examination) -> AsyncIterator[Finding]:
    """Look at the directories in which processes meet in mode host; one that can be used is enough."""
    places = examination.bus.client.engine.network.places
    if places is None:
        return
    problems = places.problems()
    usable = [path for path, problem in problems.items() if not problem]
    if usable:
        text = f"are looked for, and made, in {', '.join(map(str, usable))}."
        yield Finding(level=Level.OK, check="sockets", text=text)
    for problem in problems.values():
        if problem and (not usable or "cannot be made" not in problem):
            yield Finding(
                level=Level.WARNING if usable else Level.ERROR,
                check="sockets",
                text=f"{problem}.",
                remedy="" if usable else f"{REMEDY[0].upper()}{REMEDY[1:]}.",
            )


async def _directories(examination: Examination) -> AsyncIterator[Finding]:
    directory = data_directory(examination.bus.client.config.journal.data_dir)
    there = next(each for each in (directory, *directory.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            level=Level.ERROR,
            check="data directory",
            text=f"{directory} cannot be {'written to' if there == directory else 'made'} by this user.",
            remedy="Give it to the user that runs the workers, or set LIGHTBUS_DATA_DIR.",
        )
    elif problem := _little_room(there):
        yield Finding(
            level=Level.WARNING,
            check="data directory",
            text=f"{directory} is on a disk with {problem}: soon no event can be kept.",
            remedy="Make room there, or set LIGHTBUS_DATA_DIR.",
        )
    elif there == directory:
        yield Finding(level=Level.OK, check="data directory", text=f"{directory} can be written to.")
    else:
        yield Finding(level=Level.OK, check="data directory", text=f"{directory} will be made with the first event.")


def _little_room(path: Path) -> str:
    """Return what is short on the disk of a path; no text where there is enough."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return ""
    left, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if total and left < min(LITTLE_ROOM, LITTLE_SHARE * total):
        return f"{left / 2**20:.1f} MiB left"
    return "no room for another file (inodes)" if disk.f_files and not disk.f_favail else ""


async def _open_files(examination: Examination) -> AsyncIterator[Finding]:
    most = connection_limit(hard_descriptor_limit())
    if most >= FEW_CONNECTIONS:
        yield Finding(level=Level.OK, check="open files", text="a worker may have thousands of connections.")
        return
    yield Finding(
        level=Level.WARNING,
        check="open files",
        text=f"a process of this user may have {hard_descriptor_limit()}, so a worker takes {most} connections.",
        remedy="Each caller has about three. Raise the hard limit: `ulimit -Hn`, LimitNOFILE= of systemd, or "
        "/etc/security/limits.conf.",
    )


# Peers


async def _seeds(examination: Examination) -> AsyncIterator[Finding]:
    node = examination.bus.client.engine.node
    if node is None:
        return
    for endpoint, answers in node.fixed_peers().items():
        if answers:
            yield Finding(level=Level.OK, check="fixed peers", text=f"{endpoint} answers.")
        else:
            yield Finding(
                level=Level.ERROR,
                check="fixed peers",
                text=f"{endpoint} does not answer.",
                remedy=node.addressing.remedy(endpoint),
            )


async def _peers(examination: Examination) -> AsyncIterator[Finding]:
    bus = examination.bus
    if not examination.sightings:
        yield Finding(
            level=Level.WARNING,
            check="peers",
            text=f"nobody is on the bus ({bus.where}).",
            remedy="Start a worker (lightbus run), as this user, with the same LIGHTBUS_BUS and LIGHTBUS_SECURITY.",
        )
    for sighting in examination.sightings:
        if sighting.rtt is None:
            yield _silent(sighting, bus.client.engine.network.places)
    if examination.live:
        slowest = max(sighting.rtt or 0.0 for sighting in examination.live)
        text = f"{len(examination.live)} answer, the slowest in {duration(slowest)}."
        yield Finding(level=Level.OK, check="peers", text=text)


def _silent(sighting: Sighting, places: Places | None) -> Finding:
    text = f"{sighting.peer.announcement} is announced, and does not answer ({sighting.state})."
    remedy = "Has it ended, or does a firewall keep its TCP ports from this host?"
    if places is not None:
        why = places.why_not(sighting.peer.instance, sighting.peer.announcement.directory)
        remedy = f"{why[0].upper()}{why[1:]}." if why else "Has it ended, or was it stopped?"
    if sighting.state == "draining":
        return Finding(level=Level.OK, check="peers", text=f"{sighting.peer.announcement} is shutting down.")
    if sighting.state == "refused":
        text, remedy = f"{sighting.peer.announcement} refuses us.", "Give both the same key (lightbus keys)."
    return Finding(level=Level.ERROR, check="peers", text=text, remedy=remedy)


async def _names(examination: Examination) -> AsyncIterator[Finding]:
    names = Counter(_named(sighting.peer) for sighting in examination.live)
    for (service, process), count in names.items():
        if count > 1:
            yield Finding(
                level=Level.WARNING,
                check="names",
                text=f"{count} processes are called '{service} {process}'.",
                remedy="Leave --process-name out, or put {hostname} and {pid} in it, to tell them apart.",
            )


async def _clocks(examination: Examination) -> AsyncIterator[Finding]:
    for sighting in examination.live:
        skew = await _skew(examination.bus, sighting.peer)
        if skew is not None and abs(skew) > MAX_SKEW:
            yield Finding(
                level=Level.WARNING,
                check="clocks",
                text=f"the clock of {sighting.peer.announcement} is {abs(skew):.1f} s "
                f"{'ahead of' if skew > 0 else 'behind'} ours.",
                remedy="Have both hosts keep time (NTP): the times of events and in logs do not fit together.",
            )


async def _skew(bus: Connection, peer: Peer) -> float | None:
    """Return the seconds by which a peer's clock is ahead; half of the round trip is taken to be the way back."""
    before = time.time()
    try:
        told = await bus.ask(peer, "ping")
    except LightbusException:
        return None
    return float(told) - (before + time.time()) / 2


async def _versions(examination: Examination) -> AsyncIterator[Finding]:
    for api in served_apis(sighting.peer for sighting in examination.sightings):
        if api.is_mixed:
            services = sorted({peer.announcement.service for peer in api.peers})
            yield Finding(
                level=Level.WARNING,
                check="versions",
                text=f"the {len(api.peers)} peers that serve '{api.name}' do not serve the same "
                f"(versions {', '.join(map(str, api.versions))}; services {', '.join(services)}).",
                remedy="During an update that is so; otherwise update those that `lightbus describe` shows.",
            )
    for version, count in _library_versions(examination.live):
        yield Finding(level=Level.OK, check="versions", text=f"{count} workers run lightbus {version}.")


def _library_versions(sightings: Iterable[Sighting]) -> list[tuple[str, int]]:
    return sorted(Counter(str(sighting.info.get("version", "unknown")) for sighting in sightings).items())


async def _health(examination: Examination) -> AsyncIterator[Finding]:
    peers = [sighting.peer for sighting in examination.live]
    refused = set(_refused_here(examination))
    for peer, told in zip(peers, await examination.bus.told_by_all(peers, "health"), strict=True):
        refused.update(told.get("refused", ()))  # all processes of a host tell the same
        for problem in told.get("problems", ()):
            yield Finding(level=Level.WARNING, check="health", text=f"{peer.announcement}: {problem}")
        for loss in told.get("losses", ()):
            yield Finding(level=Level.WARNING, check="losses", text=f"{peer.announcement}: {loss}")
    for text in sorted(refused):
        yield Finding(level=Level.WARNING, check="outbox" if "outbox.sqlite" in text else "journals", text=text)
    if not examination.live:
        async for finding in _left_alone(examination):
            yield finding


async def _left_alone(examination: Examination) -> AsyncIterator[Finding]:
    """Tell of what waits on this host for somebody who publishes it, where nobody answers who might do that."""
    engine = examination.bus.client.engine
    if not Outbox.exists(engine.shelf.path):
        return
    outbox = Outbox(engine.shelf.path)
    try:
        waiting = await asyncio.to_thread(outbox.counts)
    except JournalError:
        return  # it is told already that it cannot be read
    for api, count in sorted(waiting.items()):
        yield Finding(
            level=Level.WARNING,
            check="outbox",
            text=f"{count} events of {api} wait on this host, in {outbox.path}, and no worker takes care of them.",
            remedy="Start any worker of this bus here, as this user and with this LIGHTBUS_DATA_DIR.",
        )


def _refused_here(examination: Examination) -> list[str]:
    engine = examination.bus.client.engine
    aside = aside_sentences(engine.shelf.path, engine.identity.host)
    try:
        return refusals(engine.shelf.path, engine.identity.host) + aside
    except JournalError as error:
        return [str(error), *aside]


async def _groups(examination: Examination) -> AsyncIterator[Finding]:
    groups = await groups_on_bus(examination.bus) if examination.live else []
    present = {(group["api"], group["name"]) for group in groups if group["members"]}
    later = await _later(examination.bus, groups)
    for group in groups:
        name = f"the group {group['name']} of {group['api']} at {group['publisher']} {group['instance'][:4]}"
        if group["lag"] and (group["api"], group["name"]) not in present:
            yield Finding(
                level=Level.WARNING,
                check="groups",
                text=f"{name} has {group['lag']} events to handle and no process.",
                remedy="Start its service, or give it up: lightbus groups remove " + group["name"],
            )
        if _at(group) in later and (found := trouble(name, group, later[_at(group)])) is not None:
            yield Finding(level=Level.WARNING, check="groups", text=found.text, remedy=found.remedy)
        if group["mixed"]:
            yield Finding(
                level=Level.WARNING,
                check="groups",
                text=f"two different programs listen as {name}: each is given a part of the events.",
                remedy="Give one of them another service_name or listener_name.",
            )
        if group["dead"]:
            yield Finding(
                level=Level.WARNING,
                check="groups",
                text=f"{group['dead']} events were set aside for {name}.",
                remedy="`lightbus dead list` shows them.",
            )


async def _later(bus: Connection, groups: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return how the groups that have processes and something to do stand a little later; else it takes no time."""
    if not any(group["lag"] and group["members"] for group in groups):
        return {}
    await asyncio.sleep(BETWEEN_LOOKS)
    return {_at(group): group for group in await groups_on_bus(bus) if group["members"]}


def _at(group: dict[str, Any]) -> tuple[str, ...]:
    return group["api"], group["name"], group["instance"]


async def _journals(examination: Examination) -> AsyncIterator[Finding]:
    answers = await ask_publishers(examination.bus, "journals") if examination.live else []
    for peer, journals in answers:
        for journal in journals:
            for loss in journal["lost"]:
                yield Finding(
                    level=Level.ERROR,
                    check="journals",
                    text=f"{loss['count']} events of {loss['api']}.{loss['event']} were deleted by {peer.announcement} "
                    f"before the group {loss['group']} had handled them.",
                    remedy="Raise journal.max_events or journal.max_bytes there, or run the group's processes more.",
                )
            share = max(journal["events"] / journal["max_events"], journal["bytes"] / journal["max_bytes"])
            if share > NEAR_CAP:
                yield Finding(
                    level=Level.WARNING,
                    check="journals",
                    text=f"the journal {journal['path']} of {peer.announcement} is {share:.0%} full.",
                    remedy="Beyond that the oldest events are deleted, handled or not: see `lightbus lag`.",
                )


def _named(peer: Peer) -> tuple[str, str]:
    return peer.announcement.service, peer.announcement.process


CHECKS: dict[str, Check] = {
    "the bus": _bus,
    "interfaces": _interfaces,
    "port 5353": _port,
    "multicast": _multicast,
    "the sockets": _sockets,
    "the data directory": _directories,
    "open files": _open_files,
    "fixed peers": _seeds,
    "peers": _peers,
    "names": _names,
    "clocks": _clocks,
    "versions": _versions,
    "health": _health,
    "groups": _groups,
    "journals": _journals,
}
"""What is being checked, for the progress bar, and the check."""
