"""The events and groups of event backends, in the form of those of journals, for `internal.events`.

A backend is shared by all publishers of an API. Only one of them answers for it, so that nothing is reported twice: the
one with the lowest instance id of those that are up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from ...exceptions import EventBackendError
from ...ports.events import EventBackend, GroupSummary, StoredEvent
from ...recurring import RecurringLog
from ..event_record import native_id
from ..kept_events import readable, serialize_kept_event
from .backend_listeners import Backends

__all__ = ["BackendAnswers", "group_of_backend", "with_backend"]

logger = logging.getLogger("lightbus.events")


class BackendAnswers:
    """
    Answers for the backends. Only touched from the node's loop. A backend that cannot be reached is logged as a
    warning, and left out.

    Args:
        backends: the backends of this process.
        is_ours: returns whether this process answers for the backend of an API.
        apis: returns the APIs whose events are published here.

    """

    def __init__(
        self, backends: Backends, *, is_ours: Callable[[str], bool], apis: Callable[[], Iterable[str]]
    ) -> None:
        self._backends = backends
        self._is_ours = is_ours
        self._apis = apis
        self._failures = RecurringLog(logger)

    async def groups(self, api: str = "") -> dict[tuple[str, str], GroupSummary]:
        """Return the positions of groups (of one API) at the backends, by API and name."""
        found = {}
        for name in self._answering(api):
            with self._warned(name):
                found.update(
                    {(name, state.name): state for state in await (await self._backends.get(name)).groups(name)}
                )
        return found

    async def journals(self) -> list[dict[str, Any]]:
        """Return the backends in the form of journals: each API's store, its events, and the losses of its groups."""
        stores = []
        for api in self._answering():
            with self._warned(api):
                backend = await self._backends.get(api)
                lost = [
                    {"group": group.name, "api": api, "event": "*", "count": group.lost, "at": None}
                    for group in await backend.groups(api)
                    if group.lost
                ]
                newest = await backend.history(api, "*", start=None, stop=None, limit=1)
                stores.append(
                    {
                        "journal": backend.store(api),
                        "head": newest[-1].sequence if newest else 0,
                        "path": f"the event backend of {api}",
                        "events": await backend.count(api),
                        "bytes": 0,
                        "max_events": 0,
                        "max_bytes": 0,
                        "lost": lost,
                    }
                )
        return stores

    async def kept(self, store: str, after: int, api: str, event: str, limit: int) -> dict[str, Any] | None:
        """Return a page of a backend's events after a sequence; None if it is no store of this bus."""
        for name in self._answering():
            backend = await self._backends.get(name)
            if backend.store(name) == store:
                found = await backend.page(name, after, limit)
                wanted = [each for each in found if fnmatchcase(name, api) and fnmatchcase(each.topic.event, event)]
                through = found[-1].sequence if found else after
                events = readable(_described(store, name, each) for each in wanted)
                return {"events": events, "through": through, "more": len(found) == limit}
        return None

    async def latest(
        self, store: str, before: int, api: str, event: str, start: float | None, stop: float | None, limit: int
    ) -> dict[str, Any] | None:
        """Return a page of a backend's events before a sequence, newest first; None if it is no store of this bus."""
        for name in self._answering():
            backend = await self._backends.get(name)
            if backend.store(name) == store:
                newest = await backend.history(name, "*", start=None, stop=None, limit=1)
                upto = min(before - 1, newest[-1].sequence if newest else 0)
                after = max(0, upto - limit)
                found = [each for each in await backend.page(name, after, limit) if each.sequence <= upto]
                wanted = [each for each in found if fnmatchcase(name, api) and fnmatchcase(each.topic.event, event)]
                found = [each for each in wanted if (start or 0.0) <= each.published_at <= (stop or each.published_at)]
                events = readable(_described(store, name, each) for each in reversed(found))
                oldest = await backend.page(name, 0, 1)
                is_more = bool(oldest) and oldest[0].sequence <= after
                return {"events": events, "before": after + 1 if is_more else None}
        return None

    async def handled(self, which: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, str]]:
        """Return the state of events, each given by its native id, its store, and its sequence."""
        states = {}
        for api in self._answering():
            with self._warned(api):
                backend = await self._backends.get(api)
                store = backend.store(api)
                for native, place, sequence in which:
                    if place == store and (groups := await backend.status(api, sequence)):
                        states[native] = dict(groups)
        return states

    async def lag(self, api: str, group: str) -> int | None:
        """Return how many events a group has not handled at the backend of an API; None if not answered here."""
        if self._answers(api):
            with self._warned(api):
                return await (await self._backends.get(api)).lag(api, group)
        return None

    async def remove_group(self, api: str, group: str) -> bool:
        """Remove a group; return whether it was known."""
        if self._answers(api):
            with self._warned(api):
                return await (await self._backends.get(api)).remove_group(api, group)
        return False

    async def history(
        self, api: str, event: str, start: float | None, stop: float | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the newest events between two times, oldest first."""
        if self._answers(api):
            with self._warned(api):
                backend = await self._backends.get(api)
                found = await backend.history(api, event, start=start, stop=stop, limit=limit)
                return readable(_described(backend.store(api), api, each) for each in found)
        return []

    async def dead(self, group: str) -> list[dict[str, Any]]:
        """Return the dead letters (of one group), in order."""
        letters: list[dict[str, Any]] = []
        for api in self._answering():
            with self._warned(api):
                backend = await self._backends.get(api)
                for letter in await backend.dead_letters(api, group):
                    event = _described(backend.store(api), api, letter.event)
                    why = {"deliveries": letter.deliveries, "error": letter.error, "died_at": letter.died_at}
                    letters.append({**event, "group": letter.group, **why})
        return letters

    async def retry_dead(self, group: str, which: Iterable[tuple[str, int]]) -> list[str]:
        """Deliver dead letters to their group again; return the native ids of those that exist."""
        return await self._each(which, lambda backend, api, sequence: backend.retry_dead(api, group, sequence))

    async def drop_dead(self, group: str, which: Iterable[tuple[str, int]]) -> list[str]:
        """Delete dead letters; return the native ids of those that existed."""
        return await self._each(which, lambda backend, api, sequence: backend.drop_dead(api, group, sequence))

    async def _each(
        self, which: Iterable[tuple[str, int]], act: Callable[[EventBackend, str, int], Awaitable[bool]]
    ) -> list[str]:
        done = []
        for api in self._answering():
            with self._warned(api):
                backend = await self._backends.get(api)
                store = backend.store(api)
                for place, sequence in which:
                    if place == store and await act(backend, api, sequence):
                        done.append(native_id(store, sequence))
        return done

    def _answers(self, api: str) -> bool:
        return self._backends.has(api) and self._is_ours(api)

    def _answering(self, api: str = "") -> Sequence[str]:
        return [name for name in sorted(self._apis()) if api in ("", name) and self._answers(name)]

    @contextmanager
    def _warned(self, api: str) -> Iterator[None]:
        """Log a backend that does not answer, and continue without it."""
        try:
            yield
        except EventBackendError as error:
            text = "Questions about the events of %s are answered without their event backend: %s"
            self._failures.log(api, logging.WARNING, text, api, error)


def group_of_backend(state: GroupSummary) -> dict[str, Any]:
    """Return a group that no journal knows in the form that journals report, as if it was created now."""
    now = time.time()
    described = {
        "api": state.api,
        "name": state.name,
        "events": list(state.events),
        "created_at": now,
        "last_seen": now,
        "clock": now,
        "digest": "",
        "members": {},
        "acks": 0,
        "mixed": False,
        "lag": 0,
        "dead": 0,
        "lost": 0,
    }
    return with_backend(described, state)


def with_backend(described: dict[str, Any], state: GroupSummary) -> dict[str, Any]:
    """Return a group in the form that journals report, with its state at the backend added."""
    members: Mapping[str, Sequence[int]] = described["members"]
    return {
        **described,
        "members": {**members, **{member: list(held) for member, held in state.members.items()}},
        "lag": described["lag"] + state.lag,
        "dead": described["dead"] + state.dead,
        "lost": described["lost"] + state.lost,
    }


def _described(store: str, api: str, event: StoredEvent) -> dict[str, Any]:
    return serialize_kept_event(store, api, event.topic.event, event.topic.partition, event.sequence, event.record)
