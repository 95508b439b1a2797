"""Events that wait for a publisher: on this host's disk, or in memory for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

__all__ = ["TRY_AGAIN_AFTER", "EventOutbox", "Refused", "Waiting"]

TRY_AGAIN_AFTER = 600.0
"""Seconds after which an event that was refused is tried again, though its API looks as it did: settings, too, may be
why it was refused, and of several publishers another one may be asked."""


class Waiting(NamedTuple):
    """
    An event that waits.

    Attributes:
        at: when it was put in, in seconds since 1970.
        refused: the form of its API in which it was refused last.
        service: whose process, one that has registered its API, put it in; empty where it was another one's.

    """

    id: str
    api: str
    event: str
    key: str | None
    record: bytes
    at: float
    refused: str | None = None
    service: str = ""


class Refused(NamedTuple):
    """Waiting events of one name that were refused: how many, and the error of the latest."""

    api: str
    event: str
    number: int
    error: str


class EventOutbox(Protocol):
    """
    An outbox. Any thread may use it; what it cannot do raises JournalError.

    No port to bring one's own for: it is one so that a bus in memory needs no file.
    """

    @property
    def is_on_disk(self) -> bool:
        """Whether other processes of this host share it."""

    @property
    def path(self) -> object:
        """What names its place in messages."""

    def exists(self) -> bool:
        """Return whether anything was ever put in: a look that costs next to nothing."""

    def state(self) -> tuple[int, ...] | None:
        """Return what changes when anything is put in or taken out; None where there is none that we could look at."""

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Store events of one name, `(id, key, record)` each, all of them or none; known ones are skipped."""

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """
        Return what waits, in the order in which it was put in.

        Args:
            published: the APIs whose events are returned, each with its form: what changes when the API does. What
                was refused in that form is left out, but for `TRY_AGAIN_AFTER`. None: everything that waits.
            limit: how many at most.

        """

    def delivered(self, ids: Iterable[str]) -> None:
        """Take out what was handed off."""

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Note that events were refused, each given by its id, the form of its API at the time, and the error."""

    def refused(self) -> list[Refused]:
        """Return what waits since its publishers refused it."""

    def counts(self) -> dict[str, int]:
        """Return how many events wait, by API."""

    def services(self) -> dict[str, str]:
        """Return which service put the events of an API in, for those that a process of their own service put in."""

    def note_seen(self, api: str, event: str) -> None:
        """Remember that there is an event of this name."""

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that there are, as far as was seen here."""

    def hold(self) -> AbstractContextManager[Callable[[], bool]]:
        """Be the process that hands off, while this lasts; the given function returns whether it is this one."""
