"""The journals that this process serves: its own, to which it appends, and those adopted from processes that ended.

They are opened at first use, maintained while this process publishes (`journal_maintenance.py`), and closed with it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.host.directories import data_directory, found_in, has_no_room, volatile_filesystem
from ...config import Config
from ...exceptions import JournalError
from ...membership.context import Identity

if TYPE_CHECKING:
    from ...adapters.sqlite.journal import Journal
    from ...adapters.sqlite.journal_directory import JournalDirectory

__all__ = ["JournalSet", "directory_of", "groups_behind"]

logger = logging.getLogger("lightbus.journal")


def groups_behind(file: Path, api: str) -> AbstractSet[tuple[str, str, int, int]]:
    """
    Return which groups have events of an API left to handle in a journal, whoever holds it.

    Each with the event, the partition, and the sequence up to which the group has handled it. Raises JournalError.
    """
    from ...adapters.sqlite import undelivered  # only a process that relays an outbox needs it

    return undelivered.groups_behind(file, api)


def directory_of(config: Config, bus: str) -> Path:
    """Return the directory of this bus's files, for all services of this user."""
    return data_directory(config.journal.data_dir) / bus


class JournalSet:
    """
    The journals of a process. Thread-safe.

    Args:
        config: the settings.
        identity: the identity of this process; its bus and service determine the directory.

    """

    def __init__(self, config: Config, identity: Identity) -> None:
        self.path = directory_of(config, identity.bus)
        self.failure = ""
        """Why the last attempt to open our own journal failed; empty if it did not."""
        self._observers: tuple[Callable[[Journal], None], ...] = ()
        self._config = config
        self._identity = identity
        self._directory: JournalDirectory | None = None
        self._own: Journal | None = None
        self._adopted: dict[str, Journal] = {}
        self._others: dict[str, JournalDirectory] = {}
        """The directories of other services whose journals we have adopted."""
        self._services: dict[str, str] = {}
        """The service of each adopted journal of another service."""
        self._lock = threading.Lock()
        self._closed = False

    def own(self) -> Journal:
        """Return the journal of this process; at first use, continue a free one or make a new one."""
        own = self._own
        if own is not None and not own.is_closed:
            return own
        with self._lock:
            if self._own is None or self._own.is_closed:
                if self._closed:
                    raise JournalError("The bus was closed: nothing is stored any more.")
                try:
                    self._own = self._open_own()
                except JournalError as error:
                    self.failure = str(error)
                    raise
                self.failure = ""
            own = self._own
        for observer in self._observers:
            observer(own)
        return own

    def _open_own(self) -> Journal:
        journal = _with_groups(self._open_directory())
        logger.info("Events are kept in %s", journal.path)
        return journal

    @property
    def problem(self) -> str:
        """Why no event can be stored here at the moment; empty if no reason is known."""
        own = self._own
        if self.failure or own is None:
            return self.failure
        return f"The journal {own.path} is on a full disk: make room." if has_no_room(own.path.parent) else own.refusal

    def observe(self, observer: Callable[[Journal], None]) -> Callable[[], None]:
        """Call back whenever our own journal is opened, in any thread; return the function that ends this."""

        def end() -> None:
            self._observers = tuple(each for each in self._observers if each is not observer)

        self._observers = (*self._observers, observer)
        return end

    @property
    def opened(self) -> Journal | None:
        """Our own journal, if it is open already; else None."""
        return self._own

    def is_left(self) -> bool:
        """Return whether the service has a journal with events, open or not. Opens nothing."""
        return any(self._services_with_events([self._identity.service]))

    def all(self) -> list[Journal]:
        """Return all journals that are open, our own first."""
        own = self._own
        journals = [*([] if own is None else [own]), *self._adopted.values()]
        return [journal for journal in journals if not journal.is_closed]

    def get(self, journal: str) -> Journal | None:
        """Return the open journal of this id, or None."""
        own = self._own
        return own if own is not None and own.id == journal else self._adopted.get(journal)

    def adopt(self) -> list[Journal]:
        """Adopt the journals of this service that no process has open any more, and return them."""
        with self._lock:
            if self._closed or not os.path.isdir(self.path / self._identity.service):
                return []  # a process that only answers calls needs no disk
            adopted = self._open_directory().adopt()
            self._adopted = {**self._adopted, **{journal.id: journal for journal in adopted}}
        for journal in adopted:
            logger.info("Serving the journal %s too, whose process has ended", journal.path)
        return adopted

    # Other services

    def others(self) -> list[Journal]:
        """Return the journals of other services that we serve."""
        return [journal for journal in self.all() if journal.id in self._services]

    def service_of(self, journal: Journal) -> str:
        """Return the service that a journal belongs to."""
        return self._services.get(journal.id, self._identity.service)

    def adopt_others(self, here: Container[str]) -> list[Journal]:
        """
        Adopt the free journals with events of services that have no worker `here`, and return them.

        Raises JournalError if those of a service cannot be adopted, unless others were: these have to be served.
        """
        adopted: list[Journal] = []
        failed: JournalError | None = None
        with self._lock:
            paths = [] if self._closed else found_in(self.path, "*/")
            others = {path.name for path in paths} - {self._identity.service}
            for service in self._services_with_events(name for name in sorted(others) if name not in here):
                try:
                    adopted += self._record_adopted(service, self._directory_of(service).adopt_filled())
                except JournalError as error:
                    failed = error
        if failed is not None and not adopted:
            raise failed
        for journal in adopted:
            logger.info("Serving the journal %s, whose service has no worker on this host", journal.path)
        return adopted

    def journal_of(self, service: str) -> Journal:
        """Return a journal of another service, opened to store events of it. Raises JournalError."""
        with self._lock:
            if self._closed:
                raise JournalError("The bus was closed: nothing is stored any more.")
            for journal in self.others():
                if self._services[journal.id] == service:
                    return journal
            journal = _with_groups(self._directory_of(service))
            self._record_adopted(service, [journal])
        logger.info(
            "Events of the service '%s', which has no worker on this host, are kept in %s", service, journal.path
        )
        return journal

    def _directory_of(self, service: str) -> JournalDirectory:
        if service not in self._others:
            self._others[service] = self._new_directory(service)
        return self._others[service]

    def _record_adopted(self, service: str, journals: list[Journal]) -> list[Journal]:
        self._adopted = {**self._adopted, **{journal.id: journal for journal in journals}}
        self._services.update((journal.id, service) for journal in journals)
        return journals

    def drop(self, journal: Journal) -> None:
        """Delete an adopted journal without unhandled events; one of another service is given back."""
        if journal.id in self._services:  # not deleted: it may be the only one that knows the groups of its service
            self.give_back(journal)
            return
        with self._lock:
            self._adopted = {name: each for name, each in self._adopted.items() if each is not journal}
            journal.delete()
        logger.info("Deleted the journal %s: all groups have handled its events", journal.path)

    def give_back(self, journal: Journal) -> None:
        """
        Close an adopted journal without unhandled events, so that another process of its service may open it.

        One of another service is adopted by the worker that this service has, one of our own by no running process:
        those may have many, too.
        """
        with self._lock:
            self._adopted = {name: each for name, each in self._adopted.items() if each is not journal}
            service = self._services.pop(journal.id, None)
            directory = self._open_directory() if service is None else self._directory_of(service)
            directory.give_back(journal, to_starting=service is None)
        if service is None:
            logger.info("Closed the journal %s: all groups have handled it, and many are open", journal.path)
        else:
            logger.info("The journal %s is left to its own service", journal.path)

    def release(self) -> None:
        """Close all journals, so that other processes may adopt them; the next use opens them again."""
        with self._lock:
            journals = self.all()
            self._own, self._adopted = None, {}
            for journal in journals:
                journal.close()

    def close(self) -> None:
        """Close all journals for good."""
        self._closed = True
        self.release()

    def pause(self, seconds: float) -> Callable[[], None]:
        """Lock all journals for a fork, and return the function that unlocks them."""
        resumes: list[Callable[[], None]] = []
        if self._lock.acquire(timeout=seconds):
            resumes.append(self._lock.release)
        resumes += [journal.pause(seconds) for journal in self.all()]

        def resume() -> None:
            for each in resumes:
                each()

        return resume

    def abandon(self) -> None:
        """Drop all journals without closing them, in a forked child: they belong to the parent."""
        self._closed = True  # objects left from the parent must not open one, either
        for journal in self.all():
            journal.abandon()

    def _open_directory(self) -> JournalDirectory:
        if self._directory is None:
            directory = self._new_directory(self._identity.service)
            if (kind := volatile_filesystem(self.path)) is not None:
                logger.warning(
                    "Events are kept in %s, which is on %s: they are lost with it. "
                    "Set LIGHTBUS_DATA_DIR to a persistent directory.",
                    self.path, kind,
                )  # fmt: skip
            self._directory = directory
        return self._directory

    def _services_with_events(self, services: Iterable[str]) -> Iterator[str]:
        from ...adapters.sqlite.journal_directory import has_events

        return (service for service in services if has_events(self.path / service))

    def _new_directory(self, service: str) -> JournalDirectory:
        from ...adapters.sqlite.journal_directory import JournalDirectory  # only publishers need it

        settings, host = self._config.journal, self._identity.host
        return JournalDirectory(self.path / service, host=host, durability=settings.durability)


def _with_groups(directory: JournalDirectory) -> Journal:
    """Return a journal to append to, with the groups that any of the service knows. Raises JournalError."""
    journal = directory.open_own()
    try:
        for group in directory.siblings_groups():
            journal.groups.save(group)
    except BaseException:
        journal.close()  # so that a process that can write it may open it
        raise
    return journal
