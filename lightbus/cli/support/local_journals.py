"""The journals of this user's services on this host, for commands that need no worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ...adapters.host.directories import found_in
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal_directory import JournalDirectory
from ...adapters.sqlite.journal_files import journals_in
from ...events.publishing.journal_set import directory_of
from .connection import Connection

__all__ = ["directories", "forget_here", "groups_here", "journal_directory", "place"]


def place(bus: Connection) -> Path:
    """Return the directory of the bus, which has a directory for each service."""
    return directory_of(bus.client.config, bus.name)


def journal_directory(bus: Connection, path: Path) -> JournalDirectory:
    """Return the journal directory of one service."""
    durability = bus.client.config.journal.durability
    return JournalDirectory(path, host=bus.client.engine.identity.host, durability=durability)


def directories(bus: Connection) -> list[JournalDirectory]:
    """Return the journal directories of all services that have journals."""
    return [journal_directory(bus, path) for path in found_in(place(bus), "*/") if journals_in(path)]


def groups_here(bus: Connection, api: str = "") -> list[KnownGroup]:
    """Return the groups (of one API) that any journal knows, in use or not."""
    found = [group for directory in directories(bus) for group in directory.siblings_groups()]
    return [group for group in found if api in ("", group.api)]


def forget_here(bus: Connection, name: str, apis: set[str]) -> tuple[Counter[str], list[Path]]:
    """
    Remove a group from the journals that are not in use.

    Returns:
        API -> the number of journals it was removed from, and the files of journals that have the group and are in use.

    """
    done: Counter[str] = Counter()
    held: list[Path] = []
    with ExitStack() as opened:
        for directory in directories(bus):
            journals, others = directory.open_those_knowing(name, apis)
            for journal in journals:
                opened.callback(journal.close)
            held += others
            for journal in journals:
                for api in _apis_of(journal.groups.all(), name, apis):
                    journal.groups.remove(api, name)
                    done[api] += 1
    return done, held


def _apis_of(groups: list[KnownGroup], name: str, apis: set[str]) -> Iterator[str]:
    return (group.api for group in groups if group.name == name and group.api in apis)
