"""Which process fires the events of a database outbox: one after the other, so that they stay in order.

Each process has a journal of its own, and nothing orders the events of two journals. So a process that takes over from
another one waits until the groups have handled what the other one has fired.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from ...config.durable_files import write_durably
from ...exceptions import JournalError
from .journal_set import JournalSet, groups_behind

__all__ = ["RelayTurns"]

logger = logging.getLogger("lightbus.outbox")

PATIENCE = 15.0
"""
Seconds for which a process waits without any group handling an event of its predecessor: a group that is away, or that
tries an event again after a long pause, must not delay all others. A journal without a process is adopted in less.
"""

LONGEST = 60.0
"""Seconds for which it waits for groups that do handle events."""


class _Wait(NamedTuple):
    """A wait: the first event that waits; since when; which groups are behind, and since when they are just there."""

    first: int
    since: float
    behind: AbstractSet[tuple[str, str, int, int]]
    moved_at: float


class RelayTurns:
    """
    Tells whether it is the turn of this process. Used in one thread, with the events locked that are about to be fired.

    The process whose turn it is has its journal named in a file, `<data directory>/<bus>/relayed-<hash>`, so only the
    processes of one host wait for each other.

    Args:
        journals: the journals of this process.
        outbox: the name of the outbox, for messages.
        place: which outbox it is: the same in all processes that use it, and another one for every other outbox.
        overtaken: by API, how often a process did not wait any longer; counted here.
        is_journaled: returns whether the events of an API are kept in the journal of this process.

    """

    def __init__(
        self,
        journals: JournalSet,
        outbox: str,
        place: str,
        overtaken: Counter[str],
        is_journaled: Callable[[str], bool],
    ) -> None:
        self._journals = journals
        self._outbox = outbox
        self._place = place
        self._overtaken = overtaken
        self._is_journaled = is_journaled
        self._waits: dict[str, _Wait] = {}

    def is_ours(self, api: str, first: int) -> bool:
        """
        Return whether this process may fire events of an API now; if so, no other one may until it has waited.

        `first` is the number of the oldest event that waits: while others fire, it is not waited in vain. Raises
        JournalError.
        """
        if not self._is_journaled(api):
            return True
        own = self._journals.own()  # it may not be open yet: because of an error, or the API was registered later
        ours = f"{own.path.parent.name}/{own.id}"
        key = hashlib.sha256(f"{self._place} {api}".encode()).hexdigest()[:16]
        file = self._journals.path / f"relayed-{key}"
        before = _read(file)
        if before == ours:
            return True
        if before and not self._is_over(api, first, self._journals.path / f"{before}{own.path.suffix}"):
            return False
        self._waits.pop(api, None)
        _write(file, ours)
        return True

    def _is_over(self, api: str, first: int, journal: Path) -> bool:
        """Return whether the events of an earlier process are handled, or were waited for long enough."""
        now = time.monotonic()
        wait = self._waits.get(api)
        if wait is None or wait.first != first:
            wait = _Wait(first, now, frozenset(), now)
        behind: AbstractSet[tuple[str, str, int, int]] = wait.behind
        with contextlib.suppress(JournalError):  # locked for a moment: unknown
            behind = groups_behind(journal, api)
            if not behind:
                return True
        moved_at = wait.moved_at if behind == wait.behind else now
        self._waits[api] = wait._replace(behind=behind, moved_at=moved_at)
        if now - moved_at < PATIENCE and now - wait.since < LONGEST:
            return False
        self._overtaken[api] += 1
        groups = ", ".join(sorted({group for group, *_ in behind})) or "some groups"
        logger.warning(
            "Events of %s in the outbox %s are fired out of order: earlier ones, which another process has fired, were "
            "not handled by %s within %.0f s, and may be delivered later (from the journal %s)",
            api, self._outbox, groups, now - wait.since, journal,
        )  # fmt: skip
        return True


def _read(file: Path) -> str:
    """Return what a file says; nothing if there is none: nobody was before us."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise JournalError(f"The file {file}, which keeps the order of an outbox, was not read: {error}") from error


def _write(file: Path, text: str) -> None:
    """Write a file that no other process writes now, and remove what one that was killed meanwhile has left of it."""
    try:
        write_durably(file, text.encode())
        for draft in file.parent.glob(f".{file.name}.*"):
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise JournalError(f"The file {file}, which keeps the order of an outbox, was not written: {error}") from error
