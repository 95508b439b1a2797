"""Checks of this host: interfaces, multicast, sockets, the disk, and the limits of the system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from ...adapters.host.descriptors import connection_limit, hard_descriptor_limit
from ...adapters.host.directories import data_directory, has_no_room, takes_no_files
from ...adapters.host.interfaces import explain
from ...adapters.host.places import REMEDY
from ...adapters.mdns.probe import multicast_problem, port_problem
from .finding import CheckContext, Finding, Level

__all__ = [
    "check_bus",
    "check_directories",
    "check_discovery",
    "check_interfaces",
    "check_multicast",
    "check_open_files",
    "check_port",
    "check_sockets",
]

MULTICAST_SECONDS = 1.0

LITTLE_ROOM = 64 * 1024 * 1024
LITTLE_SHARE = 0.05
"""A disk with fewer bytes left, and also a smaller share left, is a finding: a small disk may just be empty."""

FEW_CONNECTIONS = 1024
"""A limit of connections below this may be too low for a worker."""


async def check_bus(context: CheckContext) -> AsyncIterator[Finding]:
    """Report which bus it is, and who can reach it."""
    engine = context.bus.client.engine
    yield Finding(level=Level.OK, check="bus", text=f"'{context.bus.name}': {engine.transport.security.describe()}.")


async def check_interfaces(context: CheckContext) -> AsyncIterator[Finding]:
    """Report which interfaces are used, and why the others are not."""
    if context.on_host_only:
        yield Finding(level=Level.OK, check="interfaces", text="none is used: this bus stays on this host.")
        return
    for report in explain(context.bus.client.config.network.interfaces):
        yield Finding(level=Level.OK, check="interfaces", text=f"{report}.")


async def check_port(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether the port of multicast DNS can be shared, if peers are discovered by it."""
    if context.on_host_only or context.backend != "mdns":
        return  # multicast DNS is not used
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


async def check_multicast(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether multicast is sent and received at each address, if peers are discovered by it."""
    if context.on_host_only:
        return
    if context.backend != "mdns":
        found = "only fixed peers are found" if context.backend == "none" else "see discovery"
        yield Finding(level=Level.OK, check="multicast", text=f"is not used (discovery.backend): {found}.")
        return
    addresses = context.bus.client.engine.network.addresses
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


async def check_discovery(context: CheckContext) -> AsyncIterator[Finding]:
    """Report the problem that a discovery of another package states, if any; it cannot be checked further."""
    node = context.bus.client.engine.node
    if node is None or context.backend in ("mdns", "none"):
        return
    if problem := node.discovery.problem:
        yield Finding(level=Level.ERROR, check="discovery", text=f"'{context.backend}' does not work: {problem}")
        return
    yield Finding(
        level=Level.OK,
        check="discovery",
        text=f"peers are found by '{context.backend}' (discovery.backend), which reports no problem. Other "
        "reasons why it may not find a peer cannot be checked from here.",
    )


async def check_sockets(context: CheckContext) -> AsyncIterator[Finding]:
    """Check the socket directories of mode `host`; one usable directory is enough."""
    places = context.bus.client.engine.network.places
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


async def check_directories(context: CheckContext) -> AsyncIterator[Finding]:
    """Check whether events can be stored: the directory of journals, and the space on its disk."""
    directory = data_directory(context.bus.client.config.journal.data_dir)
    there = _nearest(directory)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK) or takes_no_files(there):
        yield Finding(
            level=Level.ERROR,
            check="data directory",
            text=f"{directory} cannot be {'written to' if there == directory else 'made'} by this user.",
            remedy="Set LIGHTBUS_DATA_DIR to another place."
            if takes_no_files(there)
            else "Give it to the user that runs the workers, or set LIGHTBUS_DATA_DIR.",
        )
    elif problem := _little_room(there):
        is_full = has_no_room(there)
        what = "no event can be kept now" if is_full else "soon no event can be kept"
        yield Finding(
            level=Level.ERROR if is_full else Level.WARNING,
            check="data directory",
            text=f"{directory} is on a disk with {problem}: {what}.",
            remedy="Make room there, or set LIGHTBUS_DATA_DIR.",
        )
    elif there == directory:
        yield Finding(level=Level.OK, check="data directory", text=f"{directory} can be written to.")
    else:
        yield Finding(level=Level.OK, check="data directory", text=f"{directory} will be made with the first event.")


def _nearest(path: Path) -> Path:
    """Return a path, or the nearest of its parents that can be seen to exist."""
    return next(each for each in (path, *path.parents) if os.path.exists(each))


def _little_room(path: Path) -> str:
    """Return what is short on the disk of a path; empty if there is enough space."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return ""
    left, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if total and left < min(LITTLE_ROOM, LITTLE_SHARE * total):
        return f"{left / 2**20:.1f} MiB left"
    return "no room for another file (inodes)" if disk.f_files and not disk.f_favail else ""


async def check_open_files(context: CheckContext) -> AsyncIterator[Finding]:
    """Check how many connections the system allows a worker."""
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
