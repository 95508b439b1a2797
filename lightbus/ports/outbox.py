"""The outbox: events that wait for a publisher, on this host's disk, or in memory for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

__all__ = ["TRY_AGAIN_AFTER", "EventOutbox", "Refused", "Waiting"]

TRY_AGAIN_AFTER = 600.0
"""Seconds after which a refused event is tried again although its API has not changed: settings may have been the
reason, and another publisher may get it."""


class Waiting(NamedTuple):
    """
    A waiting event.

    Attributes:
        at: when it was added, in seconds since 1970.
        refused: the form of its API when it was last refused.
        service: the service of the process that added it, if that process has registered its API; else empty.

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
    An outbox. Any thread may use it. Methods that fail raise JournalError.

    Users cannot bring their own implementation of this port: it exists so that a bus in memory needs no file.
    """

    @property
    def is_on_disk(self) -> bool:
        """Whether other processes of this host share it."""

    @property
    def path(self) -> object:
        """The name of its place in log lines and errors."""

    def exists(self) -> bool:
        """Return whether the outbox was ever used; this is cheap."""

    def state(self) -> tuple[int, ...] | None:
        """Return a value that changes with every write; None if there is no readable outbox."""

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Store events of one name, each as `(id, key, record)`: all of them or none. Known ids are skipped."""

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """
        Return the waiting events, in the order in which they were added.

        Args:
            published: the APIs whose events are returned, each with its form, a value that changes when the API does.
                Events refused in that form less than `TRY_AGAIN_AFTER` ago are left out. None: all waiting events.
            limit: the most events to return.

        """

    def delivered(self, ids: Iterable[str]) -> None:
        """Remove events that were handed off."""

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Record that events were refused, each given as its id, the form of its API at the time, and the error."""

    def refused(self) -> list[Refused]:
        """Return the waiting events that publishers refused, counted for each event name."""

    def counts(self) -> dict[str, int]:
        """Return the number of waiting events of each API."""

    def services(self) -> dict[str, str]:
        """Return, for each API, the service whose own process added its events, if one did."""

    def note_seen(self, api: str, event: str) -> None:
        """Remember that an event of this name exists."""

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that were seen here."""

    def hold(self) -> AbstractContextManager[Callable[[], bool]]:
        """Be the only one to hand off events, while this context lasts; the given function returns whether we are."""
